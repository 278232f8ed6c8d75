//! From a host name to addresses. When to look again is the caller's affair.

use std::{net::SocketAddr, time::Duration};

use crate::{Error, Target};

/// Names are never looked up more often than this.
pub(crate) const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// A name with more addresses than this is balanced over the first ones in order.
const ADDRESSES_MAX: usize = 64;

/// All addresses of the target, in an order that does not change from one lookup to the next.
pub(crate) async fn lookup(target: &Target) -> Result<Vec<SocketAddr>, Error> {
    let found = tokio::net::lookup_host((target.host(), target.port())).await;
    let found = found.map_err(|e| Error::unreachable(&target.authority(), e))?;
    Ok(in_order(found))
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
}
