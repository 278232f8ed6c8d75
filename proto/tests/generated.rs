//! The committed code in `src/gen` is what the `.proto` files give. `UPDATE_EXPECT=1` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use prost_build::{Config, Method, Service, ServiceGenerator};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn proto_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(proto_files(&path));
        } else if path.extension().is_some_and(|e| e == "proto") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Writes one constant per RPC: its gRPC path, with the names of its request and response.
struct Paths;

impl ServiceGenerator for Paths {
    fn generate(&mut self, service: Service, out: &mut String) {
        let full = format!("{}.{}", service.package, service.proto_name);
        writeln!(out, "/// gRPC paths of `{full}`.").unwrap();
        writeln!(out, "pub mod {} {{", snake(&service.proto_name)).unwrap();
        writeln!(out, "/// The service's full name.\npub const NAME: &str = \"{full}\";").unwrap();
        for Method { proto_name, input_proto_type, output_proto_type, .. } in service.methods {
            let name = snake(&proto_name).to_uppercase();
            writeln!(out, "/// `{input_proto_type}` to `{output_proto_type}`.").unwrap();
            writeln!(out, "pub const {name}: &str = \"/{full}/{proto_name}\";").unwrap();
        }
        writeln!(out, "}}").unwrap();
    }
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.char_indices() {
        if c.is_uppercase() && i > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Compiles every `.proto` under `dirs`, returns the generated files by name, and the descriptors.
fn generate(dirs: &[&str], include: &str) -> BTreeMap<String, Vec<u8>> {
    let includes: Vec<PathBuf> = dirs.iter().map(|d| root().join(d)).collect();
    let files: Vec<PathBuf> = includes.iter().flat_map(|d| proto_files(d)).collect();
    let descriptors = protox::compile(&files, &includes).unwrap();
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(include);
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out).unwrap();
    Config::new()
        .out_dir(&out)
        .bytes(["."])
        .btree_map(["."])
        .boxed(".outlast.history.HistoryEvent.attributes.workflow_execution_started_event_attributes")
        .boxed(".outlast.lang.WorkflowActivationJob.variant.initialize_workflow")
        .boxed(".outlast.lang.WorkflowActivationJob.variant.do_update")
        .boxed(".outlast.lang.WorkflowCommand.variant.signal_external_workflow_execution")
        .boxed(".outlast.lang.WorkflowCommand.variant.request_cancel_external_workflow_execution")
        .boxed(".outlast.lang.WorkflowCommand.variant.schedule_activity")
        .boxed(".outlast.lang.WorkflowCommand.variant.schedule_local_activity")
        .boxed(".outlast.lang.WorkflowCommand.variant.continue_as_new_workflow_execution")
        .boxed(".outlast.lang.WorkflowCommand.variant.start_child_workflow_execution")
        .boxed(".outlast.lang.WorkflowCommand.variant.schedule_nexus_operation")
        .boxed(".outlast.api.Command.attributes.schedule_activity_task_command_attributes")
        .boxed(".outlast.api.Command.attributes.start_child_workflow_execution_command_attributes")
        .boxed(".outlast.api.Command.attributes.continue_as_new_workflow_execution_command_attributes")
        .enable_type_names()
        .service_generator(Box::new(Paths))
        .include_file(include)
        .compile_fds(descriptors.clone())
        .unwrap();
    let mut found: BTreeMap<String, Vec<u8>> = fs::read_dir(&out)
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|p| (p.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&p).unwrap()))
        .collect();
    let map = found.get_mut(include).unwrap();
    *map = String::from_utf8(map.clone()).unwrap().replace(&format!("{}/", out.display()), "").into_bytes();
    found.insert(include.replace(".rs", ".bin"), prost::Message::encode_to_vec(&descriptors));
    found
}

fn check(dirs: &[&str], name: &str) {
    let committed = root().join("src/gen").join(name);
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    if update {
        let _ = fs::remove_dir_all(&committed);
        fs::create_dir_all(&committed).unwrap();
    }
    let files = generate(dirs, &format!("{name}.rs"));
    for (file, text) in &files {
        let path = committed.join(file);
        if update {
            fs::write(&path, text).unwrap();
        }
        let same = fs::read(&path).is_ok_and(|t| t == *text);
        assert!(same, "{} is out of step with the .proto files: run with UPDATE_EXPECT=1", path.display());
    }
    assert_eq!(
        fs::read_dir(&committed).unwrap().count(),
        files.len(),
        "stray files in {}",
        committed.display()
    );
}

#[test]
fn api_is_in_sync() {
    check(&["protos"], "api");
}

#[test]
fn lens_is_in_sync() {
    check(&["lens"], "lens");
}
