//! A vector in chunks: it grows without copying, and has less than one chunk of spare capacity. Pure.

/// The size of a chunk, in bytes. It is a size class of the allocator, so that less than one element is wasted per chunk.
const CHUNK_BYTES: usize = 64 * 1024;

/// A list of elements by position.
#[derive(Debug)]
pub(crate) struct ChunkedVec<T> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for ChunkedVec<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }
}

impl<T> ChunkedVec<T> {
    /// The number of elements in a chunk.
    const CHUNK: usize = {
        assert!(size_of::<T>() <= CHUNK_BYTES, "an element is larger than a chunk");
        CHUNK_BYTES / size_of::<T>()
    };

    /// Appends an element and returns its position.
    pub(crate) fn push(&mut self, element: T) -> usize {
        let position = self.len;
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < Self::CHUNK => chunk.push(element),
            Some(_) | None => {
                let mut chunk = Vec::with_capacity(Self::CHUNK);
                chunk.push(element);
                self.chunks.push(chunk);
            }
        }
        self.len += 1;
        position
    }

    /// Removes the last element.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let chunk = self.chunks.last_mut()?;
        let element = chunk.pop();
        if chunk.is_empty() {
            self.chunks.pop();
        }
        self.len -= usize::from(element.is_some());
        element
    }

    pub(crate) fn get(&self, position: usize) -> Option<&T> {
        self.chunks.get(position / Self::CHUNK)?.get(position % Self::CHUNK)
    }

    pub(crate) fn get_mut(&mut self, position: usize) -> Option<&mut T> {
        self.chunks.get_mut(position / Self::CHUNK)?.get_mut(position % Self::CHUNK)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The bytes in use, without what the elements own on the heap.
    pub(crate) fn memory(&self) -> usize {
        self.chunks.len() * Self::CHUNK * size_of::<T>() + self.chunks.capacity() * size_of::<Vec<T>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = ChunkedVec::<usize>::CHUNK;

    #[test]
    fn an_element_is_found_at_its_position_across_chunks() {
        let mut vec = ChunkedVec::default();
        for number in 0..=3 * CHUNK {
            assert_eq!(vec.push(number), number);
        }
        assert_eq!(vec.len(), 3 * CHUNK + 1);
        for number in [0, CHUNK - 1, CHUNK, 3 * CHUNK] {
            assert_eq!(vec.get(number), Some(&number));
            assert_eq!(vec.get_mut(number), Some(&mut { number }));
        }
        assert_eq!(vec.get(3 * CHUNK + 1), None);
        assert!(vec.iter().copied().eq(0..=3 * CHUNK));
        assert!(vec.memory() >= 4 * CHUNK_BYTES);
    }

    #[test]
    fn the_last_element_is_removed_and_an_empty_chunk_with_it() {
        let mut vec = ChunkedVec::default();
        for number in 0..=CHUNK {
            vec.push(number);
        }
        assert_eq!(vec.pop(), Some(CHUNK));
        assert!(vec.memory() < 2 * CHUNK_BYTES);
        assert_eq!((vec.pop(), vec.len(), vec.get(CHUNK - 1)), (Some(CHUNK - 1), CHUNK - 1, None));
        assert_eq!(vec.push(0), CHUNK - 1);
        while vec.pop().is_some() {}
        assert_eq!((vec.len(), vec.pop()), (0, None));
    }
}
