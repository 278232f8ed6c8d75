//! The `.proto` files are what the published descriptors say. (That the Rust code is what the `.proto` files say is
//! checked by `proto/tests/generated.rs`.)

use std::process::Command;

use crate::repo::{root, skip};

#[test]
fn protos_are_in_step_with_the_published_descriptors() {
    let Some(python) = std::env::var_os("OUTLAST_PYTHON") else {
        skip("proto/protos against the published descriptors: OUTLAST_PYTHON is not set (make test sets it)");
        return;
    };
    let out = Command::new(python)
        .args(["-B", "proto/generate.py", "--check"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(String::from_utf8_lossy(&out.stdout).contains("in step"));
}
