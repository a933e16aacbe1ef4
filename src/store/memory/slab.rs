//! A dense list that grows without copying.
//!
//! For a table whose index holds positions: they stay as they are when the list grows, and when an
//! item goes only the last one moves.

/// Items in blocks of [`BLOCK`]. Growing allocates a block and moves nothing, so it neither
/// pauses nor leaves smaller copies behind for the allocator to keep.
#[derive(Debug)]
pub(super) struct Slab<T> {
    /// All full but the last one that holds anything; one empty one may follow.
    blocks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self {
            blocks: Vec::new(),
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> usize {
        let block = BLOCK * size_of::<T>();
        self.blocks.len() * block + self.blocks.capacity() * size_of::<Vec<T>>()
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.blocks.get(at / BLOCK)?.get(at % BLOCK)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.blocks.get_mut(at / BLOCK)?.get_mut(at % BLOCK)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten()
    }

    /// Adds an item at the end and returns its position.
    pub(super) fn push(&mut self, item: T) -> usize {
        let at = self.len;
        let block = at / BLOCK;
        if block == self.blocks.len() {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        if let Some(block) = self.blocks.get_mut(block) {
            block.push(item);
            self.len += 1;
        }
        at
    }

    /// Takes an item out; the last one moves to its place.
    pub(super) fn swap_remove(&mut self, at: usize) -> Option<T> {
        let last = self.len.checked_sub(1)?;
        if at > last {
            return None;
        }
        let moved = self.blocks.get_mut(last / BLOCK)?.pop()?;
        self.len = last;
        match self.get_mut(at) {
            Some(hole) => Some(std::mem::replace(hole, moved)),
            // It was the last one itself.
            None => Some(moved),
        }
    }

    /// Gives empty blocks back, but for one that the next items will need.
    pub(super) fn shrink(&mut self) {
        let keep = self.len.div_ceil(BLOCK) + usize::from(self.len > 0);
        self.blocks.truncate(keep);
        if self.blocks.is_empty() {
            self.blocks = Vec::new();
        }
    }
}

/// Items of a block: some 3.5 kB of entries.
const BLOCK: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_item_fills_the_hole() {
        let mut slab = Slab::new();
        for item in 0..200 {
            assert_eq!(slab.push(item), item);
        }
        assert_eq!(slab.swap_remove(3), Some(3));
        assert_eq!(slab.get(3), Some(&199));
        assert_eq!(slab.swap_remove(198), Some(198));
        assert_eq!(slab.swap_remove(198), None);
        assert_eq!((slab.len(), slab.iter().count()), (198, 198));
    }

    #[test]
    fn empty_blocks_are_given_back() {
        let mut slab = Slab::new();
        for item in 0..1_000 {
            slab.push(item);
        }
        let full = slab.bytes();
        for at in (0..1_000).rev() {
            slab.swap_remove(at);
            slab.shrink();
            assert_eq!(slab.iter().count(), at);
        }
        assert!(full > 4_000);
        assert_eq!(slab.bytes(), 0);
    }
}
