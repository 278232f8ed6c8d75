//! tmp
#[path = "../tests/oracle/mod.rs"]
mod oracle;
fn main() {
    let a: Vec<String> = std::env::args().skip(1).collect();
    for case in oracle::load(&a[1..]) {
        if case.name != a[0] { continue; }
        let p = oracle::play(&case);
        for v in &p.activations {
            let jobs: Vec<String> = v["jobs"].as_array().unwrap().iter().map(|j| { let (k, b) = j.as_object().unwrap().iter().next().unwrap(); format!("{k}{}", b["seq"]) }).collect();
            println!("{} {} {:?}", v["history_length"], v["is_replaying"], jobs);
        }
        println!("{} {} given {}", p.evicted, p.message, p.commands_given);
    }
}
