//! The half types: widened where they are read, narrowed where they are written.

use iced_x86::code_asm::*;
use iced_x86::{Code as Encoding, IcedError, Instruction, MemoryOperand, Register};

use super::super::encodings::{self, Pair};
use super::super::micro::{Half, Id, Slot};
use super::{Assembler, Emitted, Operand};

const WIDEN_F16: Pair = [Encoding::EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae, Encoding::VEX_Vcvtph2ps_ymm_xmmm128];
const NARROW_F16: Pair = [Encoding::EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae, Encoding::VEX_Vcvtps2ph_xmmm128_ymm_imm8];
/// 16 bits to the lower 16 of 32.
const EXTEND: Pair = [Encoding::EVEX_Vpmovzxwd_zmm_k1z_ymmm256, Encoding::VEX_Vpmovzxwd_ymm_xmmm128];
const BROADCAST: Pair = [Encoding::EVEX_Vpbroadcastw_ymm_k1z_xmmm16, Encoding::VEX_Vpbroadcastw_xmm_xmmm16];
/// To the nearest, and to even between two.
const NEAREST: u32 = 0;

impl Assembler<'_> {
    /// The turn's vector of this number, of elements of 2 bytes.
    pub(super) fn half_element(&mut self, slot: Slot, number: usize) -> Result<MemoryOperand, IcedError> {
        let (base, offset) = (self.pointer(slot)?, (2 * self.width() * number) as i64);
        Ok(MemoryOperand::with_base_index_scale_displ_size(base.into(), Register::RCX, 2, offset, 1))
    }

    /// The lower half of a register, which a vector of a half type fits.
    fn lower(&self, register: Register) -> Register {
        let first = if self.wide { Register::YMM0 } else { Register::XMM0 };
        first + (register as u32 - self.numbered(0) as u32)
    }

    /// A vector of a half type, in memory or a register, to one of f32.
    pub(super) fn widen(&mut self, half: Half, to: Register, from: Operand) -> Emitted {
        let encoding = self.of(if half == Half::F16 { WIDEN_F16 } else { EXTEND });
        self.add(match from {
            Operand::Register(from) => Instruction::with2(encoding, to, from)?,
            Operand::Memory(from) => Instruction::with2(encoding, to, from)?,
        })?;
        if half == Half::BF16 {
            self.add(Instruction::with3(self.of(encodings::SHIFT_LEFT), to, to, 16u32)?)?;
        }
        Ok(())
    }

    /// One element of a half type to all.
    pub(super) fn uniform_half(&mut self, half: Half, id: Id, slot: Slot) -> Emitted {
        let (from, own) = (MemoryOperand::with_base(self.pointer(slot)?.into()), self.lower(self.own()));
        self.add(Instruction::with2(self.of(BROADCAST), own, from)?)?;
        self.widen(half, self.register(id), Operand::Register(own))
    }

    pub(super) fn round_to_f16(&mut self, id: Id, a: Id) -> Emitted {
        let (a, own) = (self.in_register(self.operand(a))?, self.lower(self.own()));
        self.add(Instruction::with3(self.of(NARROW_F16), own, a, NEAREST)?)?;
        self.widen(Half::F16, self.register(id), Operand::Register(own))
    }

    pub(super) fn store_half(&mut self, half: Half, slot: Slot, number: usize, from: Id) -> Emitted {
        let from = self.in_register(self.operand(from))?;
        let (to, own) = (self.half_element(slot, number)?, self.own());
        if half == Half::F16 {
            return self.add(Instruction::with3(self.of(NARROW_F16), to, from, NEAREST)?);
        }
        // The upper halves of the bits, which the signed narrowing below leaves as they are.
        self.add(Instruction::with3(self.of(encodings::SHIFT_RIGHT), own, from, 16u32)?)?;
        if self.wide {
            return self.add(Instruction::with2(Encoding::EVEX_Vpmovdw_ymmm256_k1z_zmm, to, own)?);
        }
        // Within each 16 bytes; then the first 8 of both.
        let (both, low) = (ymm15, self.lower(own));
        self.asm.vpackssdw(both, both, both)?;
        self.asm.vpermq(both, both, 0b10_00i32)?;
        self.add(Instruction::with2(Encoding::VEX_Vmovdqu_xmmm128_xmm, to, low)?)
    }
}
