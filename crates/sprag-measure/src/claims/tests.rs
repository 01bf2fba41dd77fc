use super::*;

fn shipped() -> Vec<Claim> {
    read_claims(SHIPPED).unwrap()
}

/// Reviewed by hand against the published configurations; what differs from the first recomputation stands in
/// docs/claims.md.
#[test]
fn every_shipped_claim_has_the_verdict_that_was_found_by_hand() {
    let claims = shipped();
    let found: Vec<(u32, &str)> =
        claims.iter().map(|claim| (claim.id, judge(claim, &claims).unwrap().verdict.word())).collect();
    let expected = |id: u32| match id {
        1..=6 | 17 | 24 | 26 | 35 | 46 | 47 => "wrong",
        7 | 13 | 18 | 19 | 27 | 32 => "cannot happen",
        8..=11 => "projection",
        16 | 56 | 58 => "contradicts",
        22 | 23 => "unit slip",
        41 | 42 | 51 => "not judged",
        _ => "holds",
    };
    assert_eq!(found.len(), 59);
    let off: Vec<_> = found.iter().filter(|(id, word)| *word != expected(*id)).collect();
    assert!(off.is_empty(), "{off:?}");
    for claim in &claims {
        let judged = judge(claim, &claims).unwrap();
        assert!(!judged.working.is_empty(), "claim {} has no working", claim.id);
        assert!(
            judged.working.iter().all(|line| !line.contains("NaN") && !line.contains("inf")),
            "{judged:?}"
        );
        // A projection is marked as one everywhere.
        let names_it = SHIPPED.contains("M5 Ultra") && claim.statement.contains("M5 Ultra");
        assert_eq!(judged.projected, names_it, "claim {}", claim.id);
    }
}

/// Factors by hand: 52.4 over 8.59; 25.2 over 153.9; 2000 over 55.8; 200 over 34.4.
#[test]
fn wrong_claims_tell_by_how_much() {
    let claims = shipped();
    for (id, expected) in [(1, 6.10), (2, 0.164), (3, 35.8), (4, 0.488), (5, 5.82), (46, 0.1026), (47, 0.092)]
    {
        let claim = claims.iter().find(|claim| claim.id == id).unwrap();
        let Verdict::Wrong { factor } = judge(claim, &claims).unwrap().verdict else { panic!("claim {id}") };
        assert!((factor / expected - 1.0).abs() < 0.01, "claim {id}: {factor}");
    }
}

fn one(claimed: &str, unit: &str, checks: &str) -> Result<Verdict, ClaimsError> {
    let text = format!(
        "[[claim]]\nid = 1\nstatement = \"x\"\nsource = \"me\"\nclaimed = {claimed}\nunit = \"{unit}\"\n{checks}"
    );
    let claims = read_claims(&text)?;
    Ok(judge(&claims[0], &claims)?.verdict)
}

fn check(role: &str, value: &str) -> String {
    format!("[[claim.check]]\nrole = \"{role}\"\nvalue = {value}\n")
}

const HUNDRED: &str = "{ number = { value = [1e11], what = \"a hundred\" } }";

#[test]
fn verdicts_follow_from_roles() {
    let value = |claimed: &str| one(claimed, "GB", &check("value", HUNDRED)).unwrap();
    assert_eq!(value("[100]"), Verdict::Holds);
    assert_eq!(value("[97.5]"), Verdict::Holds);
    assert_eq!(value("[50, 150]"), Verdict::Holds);
    assert!(matches!(value("[50]"), Verdict::Wrong { factor } if (factor - 0.5).abs() < 1e-12));
    assert!(matches!(value("[200, 300]"), Verdict::Wrong { factor } if (factor - 2.0).abs() < 1e-12));
    assert!(matches!(value("[93.1]"), Verdict::UnitSlip { .. }));
    let ceiling = |claimed: &str| one(claimed, "GB", &check("ceiling", HUNDRED)).unwrap();
    assert_eq!(ceiling("[100]"), Verdict::Holds);
    assert!(matches!(ceiling("[90, 110]"), Verdict::CannotHappen { .. }));
    let floor = |claimed: &str| one(claimed, "GB", &check("floor", HUNDRED)).unwrap();
    assert_eq!((floor("[101]"), floor("[100]")), (Verdict::Holds, Verdict::Holds));
    assert!(matches!(floor("[90]"), Verdict::CannotHappen { .. }));
    // What does not fit cannot happen, whatever the rest says.
    let both = check("fits", "{ number = { value = [1.5], what = \"part\" } }") + &check("value", HUNDRED);
    assert!(
        matches!(one("[50]", "GB", &both).unwrap(), Verdict::CannotHappen { why } if why.contains("memory"))
    );
    assert!(matches!(one("[50]", "GB", "").unwrap(), Verdict::NotJudged { .. }));
    let assumed = check("value", HUNDRED) + "assuming = \"otherwise\"\n";
    assert!(matches!(one("[50]", "GB", &assumed).unwrap(), Verdict::NotJudged { .. }));
    assert!(matches!(
        one("[100]", "GB", &format!("missing = \"a source\"\n{}", check("value", HUNDRED))),
        Ok(Verdict::NotJudged { .. })
    ));
}

#[test]
fn relations_have_a_side() {
    let with = |relation: &str, claimed: &str| {
        one(claimed, "GB", &format!("relation = \"{relation}\"\n{}", check("value", HUNDRED))).unwrap().word()
    };
    assert_eq!((with("at-least", "[50]"), with("at-least", "[200]")), ("holds", "wrong"));
    assert_eq!((with("at-most", "[50]"), with("at-most", "[200]")), ("wrong", "holds"));
}

#[test]
fn files_that_are_wrong_are_named() {
    let error = |claimed: &str, unit: &str, checks: &str| one(claimed, unit, checks).unwrap_err().to_string();
    assert!(error("[]", "GB", "").contains("claim 1"));
    assert!(error("[2, 1]", "GB", "").contains("lowest"));
    assert!(error("[1]", "furlong", "").contains("furlong"));
    assert!(error("[1]", "GB", &check("value", "{ bandwidth = \"abacus\" }")).contains("abacus"));
    assert!(error("[1]", "GB", &check("value", "{ claimed = 7 }")).contains("no claim 7"));
    assert!(
        error("[1]", "GB", &check("value", "{ weights = { model = \"Llama-9\", quants = [\"Q4_0\"] } }"))
            .contains("Llama-9")
    );
    assert!(
        error("[1]", "GB", &check("value", "{ weights = { model = 1e9, quants = [\"Q9\"] } }"))
            .contains("Q9")
    );
    assert!(error("[1]", "GB", &check("value", "{ peak = \"M5 Pro\" }")).contains("nobody says"));
    let twice = SHIPPED.replacen("id = 2\n", "id = 1\n", 1);
    assert_eq!(read_claims(&twice).unwrap_err(), ClaimsError::Twice(1));
}
