//! The time that what runs is given to end by itself once its worker shuts down.

/// How far it is. `T` is whatever time its owner goes by.
#[derive(Debug, Default)]
pub(crate) enum Grace<T> {
    /// It has not begun, or never ends.
    #[default]
    Endless,
    Until(T),
    Over,
}

impl<T: Copy + Ord> Grace<T> {
    /// It begins. `None`: it never ends.
    pub(crate) fn until(at: Option<T>) -> Self {
        at.map_or(Self::Endless, Self::Until)
    }

    pub(crate) fn deadline(&self) -> Option<T> {
        match self {
            Self::Until(at) => Some(*at),
            Self::Endless | Self::Over => None,
        }
    }

    /// Whether it ends now: what runs is to be cancelled, once.
    pub(crate) fn ends(&mut self, now: T) -> bool {
        let ends = self.deadline().is_some_and(|at| at <= now);
        if ends {
            *self = Self::Over;
        }
        ends
    }

    /// Whether it has ended: what comes now is cancelled at once.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }
}
