//! The memory of one run: blocks of the device's pool, each held from its first use to its last.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use rustorch_kernels::alloc;
use rustorch_kernels::error::Result;
use smallvec::SmallVec;

use crate::program::{BufferId, Place, Program};

/// A block of the device's pool, freed when dropped.
pub struct Block(NonNull<u8>);

impl Block {
    pub fn new(bytes: usize) -> Result<Self> {
        alloc::allocate(bytes).map(Self)
    }

    pub fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }

    /// The block's address, which is the caller's to free.
    pub fn into_address(self) -> usize {
        ManuallyDrop::new(self).address()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `new` allocated it, and nothing else frees it.
        unsafe { alloc::free(self.0) };
    }
}

/// A run's results, by number; none for one without bytes.
pub type Results = SmallVec<[Option<Block>; 8]>;

/// Where each buffer is during a run.
pub struct Memory<'a> {
    program: &'a Program,
    /// By buffer; zero for one that has no memory now.
    addresses: SmallVec<[usize; 64]>,
    /// The blocks that the run holds, by buffer.
    blocks: SmallVec<[Option<Block>; 64]>,
    _arena: Option<Block>,
    /// Called with the number of an input that the run has done with.
    release: &'a dyn Fn(usize),
}

impl<'a> Memory<'a> {
    pub fn new(program: &'a Program, inputs: &[usize], release: &'a dyn Fn(usize)) -> Result<Self> {
        let arena = if program.arena_bytes == 0 { None } else { Some(Block::new(program.arena_bytes)?) };
        let start = arena.as_ref().map_or(0, Block::address);
        let addresses = program.buffers.iter().map(|buffer| match &buffer.place {
            Place::Input(number) => inputs[*number],
            Place::Arena(offset) => start + offset,
            Place::Constant(value) => value.as_ptr() as usize,
            Place::Output(_) | Place::Block | Place::Dead => 0,
        });
        let addresses = addresses.collect();
        let blocks = program.buffers.iter().map(|_| None).collect();
        Ok(Self { program, addresses, blocks, _arena: arena, release })
    }

    /// The buffers' addresses.
    pub fn addresses(&self) -> &[usize] {
        &self.addresses
    }

    /// Takes what the instruction is the first to use.
    #[inline]
    pub fn before(&mut self, instruction: usize) -> Result<()> {
        let program = self.program;
        program.held.get(instruction).map_or(Ok(()), |held| held.taken.iter().try_for_each(|&id| self.take(id)))
    }

    /// Gives back what the instruction was the last to use.
    #[inline]
    pub fn after(&mut self, instruction: usize) {
        let Some(held) = self.program.held.get(instruction) else { return };
        for &id in &held.given {
            self.addresses[id] = 0;
            match self.program.buffers[id].place {
                Place::Input(number) => (self.release)(number),
                _ => self.blocks[id] = None,
            }
        }
    }

    /// Ends a run that succeeded.
    pub fn results(mut self) -> Result<Results> {
        let mut results: Results = (0..self.program.outputs).map(|_| None).collect();
        for (id, buffer) in self.program.buffers.iter().enumerate() {
            if let Place::Output(number) = buffer.place {
                if self.blocks[id].is_none() {
                    // No instruction touches it: its bytes are whatever they are.
                    self.take(id)?;
                }
                results[number] = self.blocks[id].take();
            }
        }
        Ok(results)
    }

    fn take(&mut self, id: BufferId) -> Result<()> {
        let block = Block::new(self.program.buffers[id].bytes)?;
        self.addresses[id] = block.address();
        self.blocks[id] = Some(block);
        Ok(())
    }
}
