//! A vector in chunks: it grows without copying, and has less than one chunk of spare capacity. Pure.

/// The number of elements in a chunk.
const CHUNK: usize = 512;

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
    /// Appends an element and returns its position.
    pub(crate) fn push(&mut self, element: T) -> usize {
        let position = self.len;
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(element),
            Some(_) | None => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(element);
                self.chunks.push(chunk);
            }
        }
        self.len += 1;
        position
    }

    pub(crate) fn get(&self, position: usize) -> Option<&T> {
        self.chunks.get(position / CHUNK)?.get(position % CHUNK)
    }

    pub(crate) fn get_mut(&mut self, position: usize) -> Option<&mut T> {
        self.chunks.get_mut(position / CHUNK)?.get_mut(position % CHUNK)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The bytes in use, without what the elements own on the heap.
    pub(crate) fn memory(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<T>() + self.chunks.capacity() * size_of::<Vec<T>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(vec.memory() >= 4 * CHUNK * size_of::<usize>());
    }
}
