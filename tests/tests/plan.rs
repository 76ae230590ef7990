//! `vitrine plan` as people run it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::process::{Output, Stdio};

use serde_json::Value;
use vitrine_tests::program;

fn plan(arguments: &[&str]) -> Output {
    program("vitrine").arg("plan").args(arguments).output().unwrap()
}

fn well(arguments: &[&str]) -> String {
    let output = plan(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_plan_says_what_decides_and_what_breaks_first_to_people_and_to_programs() {
    let arguments = ["--products", "100000000", "--changed-share", "0.02"];
    let table = well(&arguments);
    let plan: Value = serde_json::from_str(&well(&[&arguments[..], &["--json"]].concat())).unwrap();
    assert_eq!((&plan["decides"], &plan["copies"]), (&Value::from("memory"), &Value::from(2)));
    let nodes = plan["nodes"].as_u64().unwrap();
    assert_eq!(plan["nodes_by"]["memory"], nodes);
    assert!(table.contains(&format!("memory decides: {nodes} machines")), "{table}");
    assert!(table.contains("with this plan, memory breaks first, beyond") && table.contains("int8"), "{table}");
    assert_eq!(plan["breaks_first"], "memory");
    let limits = plan["limits"].as_array().unwrap();
    let memory = limits.iter().find(|limit| limit["what"] == "memory").unwrap();
    assert!(memory["one_machine_products"].as_u64().unwrap() < 100_000_000);
    assert!(memory["plan_products"].as_u64().unwrap() >= 100_000_000);
}

#[test]
fn a_small_shop_is_told_that_a_directory_is_enough() {
    let table = well(&["--products", "10000", "--replicas", "1"]);
    assert!(table.contains("copies decides: 1 machines") && table.contains("Qdrant Edge"), "{table}");
}

#[test]
fn who_reads_no_further_is_told_nothing_of_it() {
    let mut command = program("vitrine");
    let (reader, writer) = std::io::pipe().unwrap();
    let child = command.args(["plan", "--products", "10000"]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    // The command holds the other end until it is dropped.
    drop((command, reader));
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn wrong_arguments_are_refused_by_name() {
    for (arguments, problem) in [
        (&[][..], "--products"),
        (&["--products", "0"], "--products"),
        (&["--products", "10", "--quantisation", "float"], "--quantisation"),
        (&["--products", "10", "--words-share", "2"], "--words-share"),
        (&["--products", "10", "--node-memory-gib", "0"], "--node-memory-gib"),
    ] {
        let output = plan(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?} {error}");
        assert!(error.contains(problem), "{arguments:?} {error}");
    }
}
