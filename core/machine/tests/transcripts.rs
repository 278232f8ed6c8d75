//! One transcript per behaviour: what the server and the language said, and what the machine said back.
//! `UPDATE_EXPECT=1 cargo test -p outlast-machine --test transcripts` rewrites what it says; read the difference.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "test code reads and writes its stories")]

mod story;

use std::fs;
use std::path::PathBuf;

/// Plays a file and compares it with what it says.
fn check(file: &PathBuf, wrong: &mut Vec<String>) {
    let written = fs::read_to_string(file).unwrap();
    let name = file.file_stem().unwrap().to_string_lossy().into_owned();
    let played = std::panic::catch_unwind(|| story::play(&written));
    let Ok(said) = played else { return wrong.push(format!("{name} cannot be played")) };
    if said == written {
        return;
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        return fs::write(file, said).unwrap();
    }
    let differs = written.lines().zip(said.lines()).find(|(a, b)| a != b);
    let (a, b) = differs.unwrap_or(("(the end of one)", "(the end of the other)"));
    wrong.push(format!("{name}:\n    written: {a}\n    said:    {b}"));
}

#[test]
fn every_transcript_is_what_the_machine_says() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "txt"));
    files.sort();
    assert!(files.len() >= 150, "only {} transcripts were found", files.len());
    let mut wrong = Vec::new();
    files.iter().for_each(|file| check(file, &mut wrong));
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
