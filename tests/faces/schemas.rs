//! Schemas of what is printed as JSON.

use super::{json, printed, run, vxgate};

#[test]
fn the_schema_of_the_doctors_report_is_printed_and_is_one() {
    let schema = json(&["doctor", "--schema"]);
    assert_eq!(schema["properties"]["schema"]["const"], "vxgate-doctor/1");
    let mut compiler = boon::Compiler::new();
    compiler
        .add_resource("doctor.json", schema)
        .expect("a resource");
    let mut schemas = boon::Schemas::new();
    compiler
        .compile("doctor.json", &mut schemas)
        .expect("a schema");
    let (code, _, _) = run(&mut vxgate(&["doctor", "--schema", "--fix"]));
    assert_eq!(code, Some(2));
}

#[test]
fn schemas_are_listed_and_what_needs_no_daemon_is_as_they_say() {
    let listed = printed(&["schema"]);
    let names: Vec<_> = listed.lines().collect();
    assert!(
        names.contains(&"status") && names.contains(&"drops-last"),
        "{listed}"
    );
    for (name, command) in [
        ("explain", &["explain", "VXG-0107", "--json"][..]),
        ("explain", &["explain", "--json"]),
        ("config-show", &["config", "show", "--effective", "--json"]),
    ] {
        let mut compiler = boon::Compiler::new();
        compiler
            .add_resource("x.json", json(&["schema", name]))
            .expect("a resource");
        let mut schemas = boon::Schemas::new();
        let index = compiler.compile("x.json", &mut schemas).expect("a schema");
        let document = json(command);
        if let Err(error) = schemas.validate(&document, index) {
            panic!("{error}\n{document:#}");
        }
    }
    let (code, _, _) = run(&mut vxgate(&["schema", "nonsense"]));
    assert_eq!(code, Some(2));
}
