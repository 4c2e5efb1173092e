//! A list that grows by blocks: growing copies nothing, leaves nothing behind, and keeps less than
//! one block in reserve. Pure.

/// How many elements a block holds.
const BLOCK: usize = 512;

/// A list of elements that are found by their place.
#[derive(Debug)]
pub(crate) struct Blocks<T> {
    blocks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), len: 0 }
    }
}

impl<T> Blocks<T> {
    /// Adds an element at the end, and answers with its place.
    pub(crate) fn push(&mut self, element: T) -> usize {
        let place = self.len;
        match self.blocks.last_mut() {
            Some(block) if block.len() < BLOCK => block.push(element),
            Some(_) | None => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(element);
                self.blocks.push(block);
            }
        }
        self.len += 1;
        place
    }

    pub(crate) fn get(&self, place: usize) -> Option<&T> {
        self.blocks.get(place / BLOCK)?.get(place % BLOCK)
    }

    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.blocks.get_mut(place / BLOCK)?.get_mut(place % BLOCK)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes in use, without what lies behind the elements.
    pub(crate) fn memory(&self) -> usize {
        self.blocks.len() * BLOCK * size_of::<T>() + self.blocks.capacity() * size_of::<Vec<T>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_found_at_its_place_across_blocks() {
        let mut blocks = Blocks::default();
        for number in 0..=3 * BLOCK {
            assert_eq!(blocks.push(number), number);
        }
        assert_eq!(blocks.len(), 3 * BLOCK + 1);
        for number in [0, BLOCK - 1, BLOCK, 3 * BLOCK] {
            assert_eq!(blocks.get(number), Some(&number));
            assert_eq!(blocks.get_mut(number), Some(&mut { number }));
        }
        assert_eq!(blocks.get(3 * BLOCK + 1), None);
        assert!(blocks.iter().copied().eq(0..=3 * BLOCK));
        assert!(blocks.memory() >= 4 * BLOCK * size_of::<usize>());
    }
}
