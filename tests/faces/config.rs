//! Settings: where each comes from, and what may be in a file.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::{folder, json, printed, run, vxgate};

#[test]
fn every_setting_tells_where_it_comes_from() {
    let folder = folder(
        "[overlay]\npeer_check = \"log\"\ninner_vlan = \"drop\"\n[control]\nsocket = \"/s\"\n",
    );
    let arguments = ["config", "show", "x.toml", "--nice", "5", "--effective"];
    let mut command = vxgate(&arguments);
    command
        .current_dir(folder.path())
        .env("VXGATE_PEER_CHECK", "off")
        .env("VXGATE_NICE", "6");
    let (code, out, said) = run(&mut command);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    insta::assert_snapshot!(out, @r#"
    [overlay]
    devices = "auto"                 # default
    peer_check = "off"               # environment VXGATE_PEER_CHECK
    reserved_bits = "device"         # default
    ecn_encap = "kernel"             # default
    inner_vlan = "drop"              # file x.toml
    udp_checksum_rx = "auto"         # default
    [worker]
    count = "auto"                   # default
    nice = 5                         # flag --nice
    superframes = "auto"             # default
    direct = "off"                   # default
    express = true                   # default
    pod_programs = "classifier"      # default
    direct_flows_max = 65536         # default
    direct_pods_max = 448            # default
    [control]
    socket = "/s"                    # file x.toml
    [metrics]
    listen = "auto"                  # default
    max_peers = 512                  # default
    [log]
    level = "info"                   # default
    format = "text"                  # default
    "#);
    let (_, out, _) = run(command.arg("--json"));
    let document: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(document["schema"], "vxgate-config/1");
    assert_eq!(document["settings"][1]["origin"], "environment");
    // Without --effective, what nobody said is left out.
    let mut command = vxgate(&["config", "show", "x.toml"]);
    let (_, out, _) = run(command.current_dir(folder.path()));
    assert_eq!(
        out,
        "[overlay]\npeer_check = \"log\"\ninner_vlan = \"drop\"\n[control]\nsocket = \"/s\"\n"
    );
}

#[test]
fn a_file_is_judged_as_run_would() {
    let folder = folder("[worker]\nnice = 7\n");
    let path = folder.path().join("x.toml");
    let name = path.to_str().expect("UTF-8");
    assert_eq!(
        printed(&["config", "check", name]),
        format!("{name}: valid\n")
    );
    assert_eq!(printed(&["config", "check"]), "the settings are valid\n");
    let (code, _, said) = run(&mut vxgate(&["config", "check", name, "--workers", "0"]));
    assert_eq!(code, Some(78));
    assert!(
        said.starts_with("error[VXG-0607]: --workers 0: use 1 to 64"),
        "{said}"
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("chmod");
    let (code, _, said) = run(&mut vxgate(&["config", "check", name]));
    assert_eq!(code, Some(78));
    assert!(
        said.contains("VXG-0605") && said.contains(&format!("chmod o-w {name}")),
        "{said}"
    );
}

#[test]
fn the_schema_says_what_the_parser_says() {
    let schema = json(&["config", "schema"]);
    let mut compiler = boon::Compiler::new();
    compiler
        .add_resource("vxgate.json", schema)
        .expect("a resource");
    let mut schemas = boon::Schemas::new();
    // This judges the schema itself, too.
    let index = compiler
        .compile("vxgate.json", &mut schemas)
        .expect("a schema");
    let template = printed(&["config", "template"]);
    let readme = include_str!("../../README.md");
    let (_, readme) = readme.split_once("```toml\n").expect("an example");
    let (readme, _) = readme.split_once("```").expect("its end");
    for (text, good) in [
        (template.as_str(), true),
        (&template.replace("# socket = ", "socket = "), true),
        (readme, true),
        ("", true),
        ("[overlay]\ndevices = ['flannel.1', 'a']", true),
        ("[overlay]\ndevices = []", false),
        ("[overlay]\ndevices = ['a/b']", false),
        ("[overlay]\ndevices = ['..']", false),
        ("[overlay]\ndevices = 'flannel.1'", false),
        ("[overlay]\nreserved_bits = 'mask:00000000000000fF'", true),
        ("[overlay]\nreserved_bits = 'mask:ff'", false),
        ("[overlay]\npeer_check = 'strict-mac'", true),
        ("[overlay]\npeer_check = 'nobody'", false),
        ("[overlay]\npeer_chek = 'log'", false),
        ("[worker]\ncount = 64\nnice = 19\nsuperframes = 'off'", true),
        ("[worker]\ncount = 0", false),
        ("[worker]\ncount = 65", false),
        ("[worker]\nnice = -21", false),
        ("[worker]\nnice = 1.5", false),
        ("[worker]\ndirect_flows_max = 1024", true),
        ("[worker]\ndirect_flows_max = 1023", false),
        ("[worker]\ndirect_pods_max = 448", true),
        ("[worker]\ndirect_pods_max = 449", false),
        ("[control]\nsocket = 'relative'", false),
        ("[control]\nsocket = '/absolute'", true),
        ("[worker]\nsuperframes = 'cut'", true),
        ("[worker]\nsuperframes = 'on'", false),
        ("[worker]\ndirect = 'always'\nexpress = false", true),
        ("[worker]\nexpress = 'false'", false),
        ("[worker]\npod_programs = 'xdp'", true),
        ("[worker]\npod_programs = 'tcx'", false),
        ("[metrics]\nlisten = 'off'\nmax_peers = 0", true),
        ("[metrics]\nlisten = '127.0.0.1:9472'", true),
        ("[metrics]\nlisten = '[fe80::1%2]:65535'", true),
        ("[metrics]\nlisten = '/run/m.sock'", true),
        ("[metrics]\nlisten = '127.0.0.1:65536'", false),
        ("[metrics]\nlisten = '127.0.0.256:80'", false),
        ("[metrics]\nlisten = '127.0.0.1'", false),
        ("[metrics]\nlisten = '::1:9472'", false),
        ("[metrics]\nlisten = ':9472'", false),
        ("[metrics]\nlisten = 'relative'", false),
        ("[metrics]\nlisten = 9472", false),
        ("[metrics]\nmax_peers = 10001", false),
        ("[metrics]\nmax_peers = -1", false),
        ("[log]\nlevel = 'debug'\nformat = 'journald'", true),
        ("[log]\nlevel = 'warn,vxgate::control=debug'", true),
        ("[log]\nlevel = 'wran'", false),
        ("[log]\nlevel = 'info,'", false),
        ("[log]\nlevel = 1", false),
        ("[log]\nformat = 'xml'", false),
        ("[nothing]", false),
        ("overlay = 1", false),
    ] {
        let folder = folder(text);
        let (code, _, said) =
            run(vxgate(&["config", "check", "x.toml"]).current_dir(folder.path()));
        assert_eq!(code, Some(if good { 0 } else { 78 }), "{text}\n{said}");
        let document = as_json(text);
        let valid = schemas.validate(&document, index);
        assert_eq!(valid.is_ok(), good, "{text}\n{valid:?}");
    }
}

/// A TOML text of strings, numbers, truth values and lists.
fn as_json(text: &str) -> Value {
    fn value(value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::from(text.as_ref()),
            DeValue::Integer(number) => {
                Value::from(number.as_str().parse::<i64>().expect("a number"))
            }
            DeValue::Float(number) => {
                Value::from(number.as_str().parse::<f64>().expect("a number"))
            }
            DeValue::Boolean(yes) => Value::from(*yes),
            DeValue::Array(entries) => entries
                .iter()
                .map(|entry| value_of(entry.get_ref()))
                .collect(),
            DeValue::Table(entries) => Value::Object(table(entries)),
            other => panic!("{other:?}"),
        }
    }
    fn value_of(inner: &DeValue<'_>) -> Value {
        value(inner)
    }
    fn table(entries: &DeTable<'_>) -> Map<String, Value> {
        let entries = entries.iter();
        entries
            .map(|(key, entry)| (key.get_ref().to_string(), value(entry.get_ref())))
            .collect()
    }
    Value::Object(table(DeTable::parse(text).expect("TOML").get_ref()))
}
