use super::*;

fn only(text: &str) -> Option<Knob> {
    let mut knobs = parse("f", text);
    assert!(knobs.len() < 2, "{knobs:?}");
    knobs.pop()
}

#[test]
fn knobs_are_found_in_every_language() {
    let log = Scale::Log { low: 1e-4, high: 0.1 };
    for (text, name, scale, literal) in [
        ("/// Rate.\n/// knob: log 1e-4..1e-1\nconst LR: f64 = 0.02;\n", "LR", log.clone(), "0.02"),
        (
            "/// knob: log 1e-4..1e-1\n#[rustfmt::skip]\npub const LR: f32 = 2e-2_f32; // x\n",
            "LR",
            log.clone(),
            "2e-2_f32",
        ),
        ("# knob: log 1e-4..=1e-1\nLR = 0.02  # unit\n", "LR", log.clone(), "0.02"),
        ("# knob: log 1e-4..1e-1.\nlr: float = 0.02", "lr", log.clone(), "0.02"),
        ("// knob: log 1e-4..1e-1\nconstexpr float LR = 0.02f;\n", "LR", log.clone(), "0.02f"),
        ("// knob: log 1e-4..1e-1\n#define LR 0.02 // x\n", "LR", log, "0.02"),
        ("/// knob: linear 0..0.5\nconst W: f64 = 0.0;\n", "W", Scale::Linear { low: 0.0, high: 0.5 }, "0.0"),
        (
            "/// knob: choice \"a b\"|\"c\"\nconst S: &str = \"a b\";\n",
            "S",
            Scale::Choice(vec!["\"a b\"".into(), "\"c\"".into()]),
            "\"a b\"",
        ),
        (
            "/// knob: choice Act::Relu | Act::Gelu\nconst A: Act = Act::Relu;\n",
            "A",
            Scale::Choice(vec!["Act::Relu".into(), "Act::Gelu".into()]),
            "Act::Relu",
        ),
    ] {
        let knob = only(text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(
            (knob.name.as_str(), &knob.scale, knob.literal.as_str()),
            (name, &scale, literal),
            "{text}"
        );
        assert_eq!(&text[knob.span.clone()], literal);
        assert_eq!(knob.turned(text, literal), text);
    }
}

#[test]
fn what_is_not_understood_is_no_knob() {
    for text in [
        "/// knob: log 0..1\nconst A: f64 = 1.0;\n",
        "/// knob: log 2..1\nconst A: f64 = 1.0;\n",
        "/// knob: linear a..b\nconst A: f64 = 1.0;\n",
        "/// knob: choice 1\nconst A: f64 = 1.0;\n",
        "/// knob: choice 1||2\nconst A: f64 = 1.0;\n",
        "/// knob: cubic 1..2\nconst A: f64 = 1.0;\n",
        "/// knob: log\nconst A: f64 = 1.0;\n",
        "/// knob: log 1..2\n\nconst A: f64 = 1.0;\n",
        "/// knob: log 1..2\nfn f() {}\nconst A: f64 = 1.0;\n",
        "/// knob: log 1..2\n",
        "/// knob: log 1..2\nconst A: f64 =\n",
    ] {
        assert_eq!(only(text), None, "{text}");
    }
}

#[test]
fn family_is_the_nearest_heading() {
    let text = "/// knob: log 1..2\nconst A: f64 = 1.0;\n// --- Model ---\n/// knob: log 1..2\nconst B: f64 = 1.0;\n\
                # --- Data order ---\n# knob: choice 1|2\nC = 1\n";
    let families: Vec<String> = parse("f", text).into_iter().map(|knob| knob.family).collect();
    assert_eq!(families, ["general", "Model", "Data order"]);
}

#[test]
fn numbers_are_written_as_they_were() {
    for (literal, value, expect) in [
        ("0.02", 0.04, "0.04"),
        ("1.0", 2.0, "2.0"),
        ("10_000.0", 20_000.0, "20000.0"),
        ("1e-3", 0.002, "0.002"),
        ("0.02_f32", 0.04, "0.04_f32"),
        ("0.02f", 0.04, "0.04f"),
        ("4", 8.0, "8"),
        ("4_usize", 8.0, "8_usize"),
        ("16u32", 23.0, "23u32"),
        ("1e-4", 1e-5, "1e-5"),
    ] {
        let text = format!("/// knob: log 1e-9..1e9\nconst A: X = {literal};\n");
        let knob = only(&text).unwrap();
        assert_eq!(knob.literal_for(value), expect);
        assert_eq!(number(&knob.literal_for(value)), Some(value));
    }
}

#[test]
fn every_knob_of_the_template_is_read_and_stands_within_its_range() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../templates/gpt/src/train.rs");
    let text = std::fs::read_to_string(path).unwrap();
    let knobs = parse("train.rs", &text);
    assert_eq!(knobs.len(), text.matches("/// knob:").count());
    assert!(knobs.len() > 10);
    for knob in knobs {
        let inside = match &knob.scale {
            Scale::Log { low, high } | Scale::Linear { low, high } => {
                knob.value().is_some_and(|value| (*low..=*high).contains(&value))
            }
            Scale::Choice(choices) => choices.contains(&knob.literal),
        };
        assert!(inside && knob.family != "general", "{knob:?}");
    }
}
