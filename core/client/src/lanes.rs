//! The connections to a server that has several addresses, used in turn. Who looks addresses up, and what is sent, is
//! not known here.

use std::net::SocketAddr;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tonic::transport::Channel;

/// One lane per address, used in turn: a retry goes elsewhere than the try that failed.
pub(crate) struct Lanes {
    all: Vec<Arc<Lane>>,
    turn: AtomicUsize,
}

/// The connection to one address, or to whatever the name leads to.
pub(crate) struct Lane {
    address: Option<SocketAddr>,
    channel: Channel,
    down: AtomicBool,
}

impl Lane {
    pub(crate) fn new(address: Option<SocketAddr>, channel: Channel) -> Arc<Self> {
        Arc::new(Self { address, channel, down: AtomicBool::new(false) })
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Connecting failed: other lanes are preferred until addresses are looked up again.
    pub(crate) fn mark_down(&self) {
        self.down.store(true, Ordering::Relaxed);
    }
}

impl Lanes {
    /// The first turn is the caller's choice: were it always the same, all clients would begin with one address.
    pub(crate) fn new(all: Vec<Arc<Lane>>, turn: usize) -> Arc<Self> {
        Arc::new(Self { all, turn: AtomicUsize::new(turn) })
    }

    /// The next lane, those that are down left out; if all are, they get another chance.
    pub(crate) fn pick(&self) -> Option<Arc<Lane>> {
        if let Some(lane) = self.pick_up() {
            return Some(lane);
        }
        for lane in &self.all {
            lane.down.store(false, Ordering::Relaxed);
        }
        self.pick_up()
    }

    /// The next lane that is not down.
    pub(crate) fn pick_up(&self) -> Option<Arc<Lane>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (before, after) = self.all.split_at(turn.checked_rem(self.all.len())?);
        let mut in_turn = after.iter().chain(before);
        in_turn.find(|lane| !lane.down.load(Ordering::Relaxed)).cloned()
    }

    /// The channel to this address, if there is one.
    pub(crate) fn to(&self, address: SocketAddr) -> Option<Channel> {
        self.all.iter().find(|lane| lane.address == Some(address)).map(|lane| lane.channel())
    }

    #[cfg(test)]
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.all.iter().filter_map(|lane| lane.address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(turn: usize) -> Arc<Lanes> {
        let endpoint = tonic::transport::Endpoint::from_static("http://temporal.test");
        let lane = |port| Lane::new(Some(SocketAddr::from(([127, 0, 0, 1], port))), endpoint.connect_lazy());
        Lanes::new((1..=3).map(lane).collect(), turn)
    }

    fn ports(lanes: &Lanes, turns: usize) -> Vec<u16> {
        (0..turns).map(|_| lanes.pick().unwrap().address.unwrap().port()).collect()
    }

    #[tokio::test]
    async fn every_lane_has_its_turn() {
        assert_eq!(ports(&lanes(0), 4), [1, 2, 3, 1]);
        assert_eq!(ports(&lanes(5), 4), [3, 1, 2, 3]);
        assert_eq!(ports(&lanes(usize::MAX), 3).len(), 3, "turns wrap");
        assert!(Lanes::new(Vec::new(), 0).pick().is_none());
    }

    #[tokio::test]
    async fn a_lane_that_is_down_is_passed_over_until_all_are() {
        let lanes = lanes(0);
        lanes.all[1].mark_down();
        assert_eq!(ports(&lanes, 4), [1, 3, 3, 1]);
        lanes.all[0].mark_down();
        lanes.all[2].mark_down();
        assert!(lanes.pick_up().is_none());
        assert!(lanes.pick().is_some(), "all get another chance");
        assert!(lanes.all.iter().all(|lane| !lane.down.load(Ordering::Relaxed)));
    }
}
