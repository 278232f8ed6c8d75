//! Every report that a worker makes, times every reason for which a server may not take it: what is sent in its place, and
//! what is logged. The table is the one in `docs/reports.md`; what users see in the end is tested with a real server.

mod log;
mod report;

use outlast_client::Code;
use prost::Message as _;

use crate::server::{Answer, Server};
use crate::sizes::describe;
use log::logged;
use report::{REPORTS, Report, UNREADABLE};

/// Why a report is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Limit,
    Grpc,
    Invalid,
    NotFound,
}

const REFUSALS: [(&str, Refusal); 4] = [
    ("over the namespace's limit", Refusal::Limit),
    ("over gRPC's limit", Refusal::Grpc),
    ("`INVALID_ARGUMENT`", Refusal::Invalid),
    ("`NOT_FOUND`", Refusal::NotFound),
];

/// What the namespace takes, in bytes.
const LIMIT: i64 = 2 << 20;

impl Refusal {
    /// How large the report's payload or text is.
    fn bytes(self) -> usize {
        match self {
            Self::Limit => 3_000_000,
            Self::Grpc => 5_000_000,
            Self::Invalid | Self::NotFound => 10,
        }
    }

    fn prepare(self, server: &Server, method: &str) {
        match self {
            Self::Limit | Self::Grpc => {}
            Self::Invalid => {
                server.answer(method, Answer::Fails(Code::InvalidArgument, "that is wrong"));
                server.answer(method, Answer::Is(bytes::Bytes::new()));
            }
            Self::NotFound => server.answer(method, Answer::Fails(Code::NotFound, "no such task")),
        }
    }
}

/// One line of the table: of what, why, what was sent, what was logged.
async fn line(report: &Report, why: &str, refusal: Refusal) -> String {
    let server = Server::new();
    // Without the limit, what is large for gRPC is large enough to be sent.
    let limit = if refusal == Refusal::Limit { LIMIT } else { 0 };
    server.answer("DescribeNamespace", Answer::is(&describe(limit)));
    refusal.prepare(&server, report.method);
    let (log, guard) = logged();
    (report.tell)(server.clone(), refusal.bytes()).await;
    drop(guard);
    cells(report.name, why, &server, &log.take())
}

async fn unreadable(report: &Report) -> String {
    let server = Server::new();
    let (log, guard) = logged();
    (report.tell)(server.clone(), 0).await;
    drop(guard);
    cells(report.name, "its task cannot be read", &server, &log.take())
}

fn cells(name: &str, why: &str, server: &Server, log: &[String]) -> String {
    let sent: Vec<String> =
        server.told().iter().map(|(method, request)| report::outline(method, request)).collect();
    let log = if log.is_empty() { "nothing".to_owned() } else { log.join("<br>") };
    without_figures(&format!("| {name} | {why} | {} | {log} |", sent.join("<br>")))
}

/// Sizes as `N`: they change with every field that is added to a request.
fn without_figures(text: &str) -> String {
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    words
        .map(|word| {
            let figure = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            match figure.len() > 2 && figure.bytes().all(|c| c.is_ascii_digit()) {
                true => word.replace(figure, "N"),
                false => word.to_owned(),
            }
        })
        .collect()
}

/// The lines of the table in the documentation, without what users see.
fn documented() -> Vec<String> {
    let text = include_str!("../../../../docs/reports.md");
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.matches('|').count() == 6);
    rows.skip(1).map(|row| row.splitn(6, '|').take(5).collect::<Vec<_>>().join("|") + "|").collect()
}

#[tokio::test(start_paused = true)]
async fn no_report_is_lost_in_silence_and_the_table_of_the_documentation_says_what_happens() {
    let mut lines = Vec::new();
    for report in &REPORTS {
        for (why, refusal) in REFUSALS {
            lines.push(line(report, why, refusal).await);
        }
    }
    for report in &UNREADABLE {
        lines.push(unreadable(report).await);
    }
    let table = lines.join("\n");
    assert_eq!(table, documented().join("\n"), "the table is:\n{table}");
}

/// What is small is never refused for its size, so the replacement is not, either.
#[tokio::test(start_paused = true)]
async fn what_is_sent_in_place_of_a_report_is_small() {
    for report in &REPORTS {
        let server = Server::new();
        server.answer("DescribeNamespace", Answer::is(&describe(0)));
        (report.tell)(server.clone(), Refusal::Grpc.bytes()).await;
        let last = server.told().pop().map(|(_, request)| request.encode_to_vec().len());
        assert!(last.is_some_and(|bytes| bytes < 20_000), "{}: {last:?}", report.name);
    }
}
