//! Whether payload bytes are copied on their way from history to activation: by address.

use outlast_proto::lens::lang::workflow_activation_job::Variant as Job;

use crate::history::{Shape, write};
use crate::replay::{Exchange, Replayer};

/// How many payloads of a replay do not lie in the history they came from. Zero: nothing was copied.
pub fn copied(shape: Shape, k: u32, size: usize) -> usize {
    let history = write(shape, k, size).encode();
    let (mut seen, mut copied) = (0, 0);
    let mut replayer = Replayer::new(shape, Exchange::Typed);
    replayer.replay(&history, |activation| {
        for job in &activation.jobs {
            let payloads = match &job.variant {
                Some(Job::SignalWorkflow(signal)) => signal.input.as_slice(),
                Some(Job::ResolveActivity(resolved)) => result(resolved),
                _ => continue,
            };
            for payload in payloads {
                seen += 1;
                assert!(payload.len() >= size, "a payload of {} bytes", payload.len());
                copied += usize::from(!history.as_ptr_range().contains(&payload.as_ptr()));
            }
        }
    });
    replayer.check();
    assert_eq!(seen, k as usize, "payloads of {shape:?}");
    copied
}

fn result(resolved: &outlast_proto::lens::lang::ResolveActivity) -> &[bytes::Bytes] {
    use outlast_proto::lens::lang::activity_resolution::Status;
    match resolved.result.as_ref().and_then(|r| r.status.as_ref()) {
        Some(Status::Completed(success)) => success.result.as_slice(),
        Some(Status::Failed(_) | Status::Cancelled(_) | Status::Backoff(_)) | None => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_in_activations_are_slices_of_the_history() {
        assert_eq!(copied(Shape::Signals, 3, 1 << 20), 0);
        assert_eq!(copied(Shape::Activities, 3, 1 << 20), 0);
    }
}
