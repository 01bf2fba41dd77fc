//! Repositories in the styles of the field, written for these tests, and what is guessed of them.

mod habits;
mod machines;
mod projects;
mod text;

use super::*;

/// A repository of committed files.
fn tree(files: &[(&str, &str)]) -> Tree {
    let source = |(path, text): &(&str, &str)| Source {
        path: (*path).to_owned(),
        text: Some((*text).to_owned()),
        tracked: true,
    };
    Tree::new(files.iter().map(source).collect())
}

/// A machine with all that contracts ask for.
fn machine() -> Machine {
    Machine {
        home: Some("/home/someone".into()),
        readable: ["/usr/bin", "/usr/lib", "/bin"].map(PathBuf::from).to_vec(),
        venv: None,
        python: Some(Python { program: "/usr/bin/python3.11".into(), base: "/usr".into() }),
        rust: Some(Rust { sysroot: "/opt/rust".into(), cargo_home: "/home/someone/.cargo".into() }),
        programs: [("node", "/usr/bin/node"), ("make", "/usr/bin/make")]
            .map(|(name, path)| (name.to_owned(), PathBuf::from(path)))
            .into(),
        caches: vec!["tiny".into()],
        nvidia: false,
        node_modules: false,
    }
}

fn with_venv() -> Machine {
    let venv = Venv { path: "./.venv".into(), base: "/home/someone/.python".into() };
    Machine { venv: Some(venv), ..machine() }
}

fn adopted(files: &[(&str, &str)], wishes: &Wishes, machine: &Machine) -> Adoption {
    adopt("some repo", &tree(files), wishes, machine)
}

/// The contract where nothing is asked.
fn contract(files: &[(&str, &str)], wishes: &Wishes, machine: &Machine) -> Contract {
    let adoption = adopted(files, wishes, machine);
    assert_eq!(adoption.questions, []);
    adoption.contract.unwrap()
}

/// Flags that the questions ask for.
fn asked(adoption: &Adoption) -> Vec<&str> {
    adoption.questions.iter().map(|question| question.flag.split(' ').next().unwrap()).collect()
}

fn reason<'a>(adoption: &'a Adoption, key: &str) -> &'a Reason {
    adoption.reasons.iter().find(|reason| reason.key == key).unwrap_or_else(|| panic!("no reason for {key}"))
}

fn pattern(metric: &Metric) -> &str {
    match &metric.source {
        MetricSource::Pattern(pattern) => pattern,
        other => panic!("{other:?} is no pattern"),
    }
}
