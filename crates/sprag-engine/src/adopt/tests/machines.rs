//! The same command on machines that differ.

use super::*;

const BENCH: &[(&str, &str)] =
    &[("bench.py", "import a\nprint(f\"loss: {x}\")\n"), ("a.py", ""), ("run.sh", "uv run bench.py\n")];

fn command(run: &str, machine: &Machine) -> Contract {
    contract(
        BENCH,
        &Wishes { run: Some(run.into()), metric: Some("loss".into()), ..Wishes::default() },
        machine,
    )
}

#[test]
fn uv_run_becomes_the_interpreter_of_the_environment() {
    for (run, expected) in [
        ("uv run bench.py -x", vec!["{venv}/bin/python", "bench.py", "-x"]),
        ("uv run --no-sync --group dev python bench.py", vec!["{venv}/bin/python", "bench.py"]),
        ("uv run pytest -q", vec!["{venv}/bin/pytest", "-q"]),
        ("python3.12 bench.py", vec!["{venv}/bin/python", "bench.py"]),
    ] {
        assert_eq!(command(run, &with_venv()).command, expected, "{run}");
    }
}

#[test]
fn variables_before_a_command_become_those_of_the_run() {
    let contract = command("OMP_NUM_THREADS=1 python bench.py", &machine());
    assert_eq!(contract.command, ["/usr/bin/python3.11", "bench.py"]);
    assert!(contract.env.contains(&("OMP_NUM_THREADS".into(), "1".into())));
}

#[test]
fn an_interpreter_outside_the_systems_folders_is_made_readable() {
    let own = Python { program: "/opt/py/bin/python3".into(), base: "/opt/py".into() };
    let contract = command("python bench.py", &Machine { python: Some(own), ..machine() });
    assert_eq!(contract.command[0], "/opt/py/bin/python3");
    assert_eq!(contract.run_read, ["/opt/py"]);
}

#[test]
fn a_script_that_starts_uv_itself_is_kept_from_the_network_and_from_installing() {
    let contract = command("bash run.sh", &with_venv());
    assert_eq!(contract.command, ["bash", "run.sh"]);
    for (name, value) in [("UV_OFFLINE", "1"), ("UV_NO_SYNC", "1"), ("UV_PROJECT_ENVIRONMENT", "{venv}")] {
        assert!(contract.env.contains(&(name.to_owned(), value.to_owned())), "{name}");
    }
}

#[test]
fn a_machine_without_python_or_rust_is_a_question() {
    let wishes =
        |run: &str| Wishes { run: Some(run.into()), metric: Some("loss".into()), ..Wishes::default() };
    let bare = Machine { python: None, rust: None, ..machine() };
    assert_eq!(asked(&adopted(BENCH, &wishes("python bench.py"), &bare)), ["--venv"]);
    assert_eq!(asked(&adopted(BENCH, &wishes("cargo run --release"), &bare)), ["--run"]);
}
