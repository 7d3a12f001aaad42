//! Which chunks are in the rings, to catch what never was there.

use super::super::umem::Bounds;

/// In which direction a chunk is with the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the fill ring, on the way through the kernel, or in the receive ring.
    Fill,
    /// In the transmit ring, on its way out, or in the completion ring.
    Transmit,
}

/// Which chunks are in this port's rings, in debug builds; in release builds it believes everything.
///
/// Chunks are told apart by the 2 KiB that an address is in: enough, because the kernel puts a frame [`super::super::ROOM`]
/// behind its chunk's start, and completes the very address that was sent.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    #[cfg(debug_assertions)]
    places: Vec<Option<Place>>,
}

#[cfg(debug_assertions)]
impl Ledger {
    const GRAIN: u32 = 2048;

    /// Makes room for all chunks at once, so that a debug build allocates no more on its path than a release build.
    pub(super) fn cover(&mut self, bounds: Bounds) {
        let grains = (bounds.area_len / u64::from(Self::GRAIN)) as usize;
        if self.places.len() < grains {
            self.places.resize(grains, None);
        }
    }

    /// Notes that a chunk goes to the kernel.
    pub(super) fn enters(&mut self, addr: u32, place: Place) {
        let index = (addr / Self::GRAIN) as usize;
        if self.places.len() <= index {
            self.places.resize((index + 1).next_power_of_two(), None);
        }
        let before = self.places[index].replace(place);
        debug_assert_eq!(
            before, None,
            "address {addr} enters {place:?} and is in a ring already"
        );
    }

    /// Notes that a chunk comes back; `false` when it was not there.
    pub(super) fn leaves(&mut self, addr: u32, place: Place) -> bool {
        let known = self
            .places
            .get_mut((addr / Self::GRAIN) as usize)
            .filter(|known| **known == Some(place));
        known.and_then(Option::take).is_some()
    }
}

#[cfg(not(debug_assertions))]
impl Ledger {
    #[inline(always)]
    pub(super) fn cover(&mut self, _bounds: Bounds) {}

    #[inline(always)]
    pub(super) fn enters(&mut self, _addr: u32, _place: Place) {}

    #[inline(always)]
    pub(super) fn leaves(&mut self, _addr: u32, _place: Place) -> bool {
        true
    }
}
