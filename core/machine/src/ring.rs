//! A map from growing ids to small indexes. Ids that are close together cost four bytes each; it follows what is open,
//! not what was ever seen. It does not know what the indexes mean.

use std::collections::{BTreeMap, VecDeque};

/// How far a window may stretch beyond what is open before its oldest entries move out.
const SLACK: usize = 64;

/// From ids to indexes. New ids are usually greater than all before; any other is served too, a little slower.
///
/// Most runs never have most kinds of ops: a ring that is not in use takes two words.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    open: Option<Box<Open>>,
    /// The greatest id ever set.
    greatest: u64,
}

/// What is open.
#[derive(Debug, Default)]
struct Open {
    /// The id of `window[0]`.
    base: u64,
    window: VecDeque<Option<u32>>,
    /// Entries in the window that are set.
    count: usize,
    /// Ids that were outside the window when they came or when it moved on: old ones that stay open while many others come
    /// and go, or ones far ahead. They stay here, also if the window comes to stretch over them.
    far: BTreeMap<u64, u32>,
}

impl Ring {
    /// The index of `id`, if it is open.
    pub fn find(&self, id: u64) -> Option<u32> {
        self.open.as_ref()?.find(id)
    }

    /// Whether `id` was set at some time, open or not: ids are given out in order.
    pub fn was_set(&self, id: u64) -> bool {
        id <= self.greatest && id > 0
    }

    /// Opens `id`. Returns what stood there.
    pub fn set(&mut self, id: u64, index: u32) -> Option<u32> {
        self.greatest = self.greatest.max(id);
        self.open.get_or_insert_default().set(id, index)
    }

    /// Closes `id`.
    pub fn clear(&mut self, id: u64) -> Option<u32> {
        self.open.as_mut()?.clear(id)
    }

    /// Gives back memory that nothing is in.
    pub fn shrink(&mut self) {
        self.open.take_if(|open| open.len() == 0);
    }

    /// How many are open.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.len())
    }
}

impl Open {
    fn len(&self) -> usize {
        self.count + self.far.len()
    }

    fn find(&self, id: u64) -> Option<u32> {
        let near = self.offset(id).and_then(|at| self.window[at]);
        near.or_else(|| self.far.get(&id).copied())
    }

    fn set(&mut self, id: u64, index: u32) -> Option<u32> {
        if let Some(before) = self.far.get_mut(&id) {
            return Some(std::mem::replace(before, index));
        }
        if self.window.is_empty() {
            self.base = id;
        }
        if let Some(at) = self.offset(id) {
            let before = self.window[at].replace(index);
            self.count += usize::from(before.is_none());
            return before;
        }
        if id < self.base || id - self.base > (self.window.len() + SLACK) as u64 {
            return self.far.insert(id, index);
        }
        self.window.resize((id - self.base) as usize, None);
        self.window.push_back(Some(index));
        self.count += 1;
        self.close_up();
        None
    }

    fn clear(&mut self, id: u64) -> Option<u32> {
        let near = self.offset(id).and_then(|at| self.window[at].take());
        if near.is_none() {
            return self.far.remove(&id);
        }
        self.count -= 1;
        self.close_up();
        near
    }

    fn offset(&self, id: u64) -> Option<usize> {
        let at = usize::try_from(id.checked_sub(self.base)?).ok()?;
        (at < self.window.len()).then_some(at)
    }

    /// Drops closed entries from the front, and moves open ones out while most of the window is closed.
    fn close_up(&mut self) {
        while let Some(&front) = self.window.front() {
            if let Some(index) = front {
                if self.window.len() <= SLACK + 8 * self.count {
                    break;
                }
                self.far.insert(self.base, index);
                self.count -= 1;
            }
            self.window.pop_front();
            self.base += 1;
        }
        if self.window.is_empty() && self.window.capacity() > 4 * SLACK {
            self.window.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_order_are_found_until_they_are_closed() {
        let mut ring = Ring::default();
        for id in 1..100 {
            assert_eq!(ring.set(id, id as u32), None);
        }
        for id in 1..100 {
            assert_eq!(ring.clear(id), Some(id as u32));
            assert_eq!(ring.find(id), None);
            assert!(ring.was_set(id));
        }
        assert_eq!(ring.len(), 0);
        assert!(!ring.was_set(100));
    }

    #[test]
    fn one_old_entry_does_not_keep_a_wide_window() {
        let mut ring = Ring::default();
        ring.set(1, 7);
        for id in 2..100_000 {
            ring.set(id, 1);
            ring.clear(id);
        }
        assert_eq!(ring.find(1), Some(7));
        assert!(ring.open.as_ref().unwrap().window.capacity() < 1024);
    }

    #[test]
    fn what_is_not_in_use_takes_no_room() {
        let mut ring = Ring::default();
        ring.set(1, 7);
        ring.shrink();
        assert_eq!(ring.find(1), Some(7));
        ring.clear(1);
        ring.shrink();
        assert!(ring.open.is_none() && ring.was_set(1));
        ring.set(2, 8);
        assert_eq!(ring.find(2), Some(8));
    }

    #[test]
    fn it_is_a_map() {
        let (mut ring, mut map, mut chance) = (Ring::default(), BTreeMap::new(), 1_u64);
        for index in 0..50_000 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let id = (chance >> 33) % 300 + 1;
            match chance >> 62 {
                0 => assert_eq!(ring.set(id, index), map.insert(id, index)),
                1 => assert_eq!(ring.find(id), map.get(&id).copied()),
                _ => assert_eq!(ring.clear(id), map.remove(&id)),
            }
            assert_eq!(ring.len(), map.len());
        }
    }

    #[test]
    fn far_and_backward_ids_are_served() {
        let mut ring = Ring::default();
        ring.set(4_000_000_000, 1);
        ring.set(5, 2);
        ring.set(u64::from(u32::MAX), 3);
        assert_eq!((ring.find(5), ring.find(4_000_000_000)), (Some(2), Some(1)));
        assert_eq!(ring.set(5, 9), Some(2));
        assert_eq!(ring.clear(5), Some(9));
        assert_eq!(ring.len(), 2);
    }
}
