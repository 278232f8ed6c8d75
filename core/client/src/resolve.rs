//! From a host name to addresses. When to look again is the caller's affair.

use std::io::{self, ErrorKind};
use std::{net::SocketAddr, time::Duration};

use tokio::time::timeout;

use crate::{Error, Target};

/// Names are never looked up more often than this.
pub(crate) const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// A name with more addresses than this is balanced over the first ones in order.
const ADDRESSES_MAX: usize = 64;

/// All addresses of the target, in an order that does not change from one lookup to the next.
pub(crate) async fn lookup(target: &Target, within: Duration) -> Result<Vec<SocketAddr>, Error> {
    let looking = tokio::net::lookup_host((target.host(), target.port()));
    let found = addresses(looking, within).await;
    let found = found.map_err(|e| Error::unreachable(&target.authority(), e))?;
    Ok(in_order(found.into_iter()))
}

/// What a lookup brings, in its order: at least one address, in time.
pub(crate) async fn addresses<I: Iterator<Item = SocketAddr>>(
    looking: impl Future<Output = io::Result<I>>,
    within: Duration,
) -> io::Result<Vec<SocketAddr>> {
    let late =
        |_| io::Error::new(ErrorKind::TimedOut, format!("the name was not resolved within {within:?}"));
    let found: Vec<SocketAddr> = timeout(within, looking).await.map_err(late)??.collect();
    if found.is_empty() {
        return Err(io::Error::new(ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}

fn in_order(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_sorted_once_each_and_bounded() {
        let address = |last: u8| SocketAddr::from(([10, 0, 0, last], 7233));
        assert_eq!(in_order([address(2), address(1), address(2)].into_iter()), [address(1), address(2)]);
        assert_eq!(in_order((0..100).map(address)).len(), ADDRESSES_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_brings_nothing_is_an_error_in_time() {
        let never = std::future::pending::<io::Result<std::vec::IntoIter<SocketAddr>>>();
        let late = addresses(never, Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(late.to_string(), "the name was not resolved within 10s");
        let nothing = async { Ok(std::iter::empty()) };
        let none = addresses(nothing, Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(none.to_string(), "the name has no address");
    }
}
