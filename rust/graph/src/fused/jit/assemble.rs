//! From straight-line code to loops of machine code, over rows and a row's elements:
//! `fn(elements, pointers, pool, rows, steps)`.

mod halves;

use iced_x86::code_asm::*;
use iced_x86::{Code as Encoding, IcedError, Instruction, MemoryOperand, Register};
use rustorch_kernels::isa::Level;

use super::encodings::{self, Form, Pair};
use super::micro::{Binary, Code, Id, Op, Product, Shift, Slot};
use super::registers::{Allocation, Place, allocate};

/// Elements of a vector.
pub fn width(level: Level) -> usize {
    if level == Level::Avx512 { 16 } else { 8 }
}

const VECTORS_WIDE: usize = 32;
const VECTORS_NARROW: usize = 16;
const MASKS: [AsmRegisterK; 8] = [k0, k1, k2, k3, k4, k5, k6, k7];
/// Registers that keep pointers through the loops; further pointers are read again in each turn.
const POINTERS: [AsmRegister64; 8] = [r9, r10, r11, rbx, r12, r13, r14, r15];
/// Those of the registers here that are the caller's.
const SAVED: [AsmRegister64; 6] = [rbx, rbp, r12, r13, r14, r15];
/// The last vector register is for the encoder's own use.
const OWN: usize = 1;

/// Assembled code, and the constants that it reads.
pub struct Assembled {
    pub code: Vec<u8>,
    pub pool: Vec<u32>,
}

/// The machine code of a loop over so many vectors a turn, or None where it needs more registers than the
/// level has.
pub fn assemble(code: &Code, vectors: usize, level: Level) -> Option<Assembled> {
    let allocation = match level {
        Level::Avx512 => allocate(code, VECTORS_WIDE - OWN, Some(MASKS.len() - 1))?,
        Level::Avx2 => allocate(code, VECTORS_NARROW - OWN, None)?,
        Level::Scalar => return None,
    };
    let wide = level == Level::Avx512;
    let mut assembler = Assembler { asm: CodeAssembler::new(64).ok()?, code, allocation, vectors, wide };
    // iced refuses what an instruction cannot encode: then there is no machine code, but blocks.
    let bytes = assembler.emit().ok()?;
    Some(Assembled { code: bytes, pool: assembler.allocation.pool })
}

/// What an instruction may take as its last operand.
#[derive(Clone, Copy, PartialEq)]
enum Operand {
    Register(Register),
    Memory(MemoryOperand),
}

struct Assembler<'a> {
    asm: CodeAssembler,
    code: &'a Code,
    allocation: Allocation,
    vectors: usize,
    wide: bool,
}

type Emitted = Result<(), IcedError>;

impl Assembler<'_> {
    // Arguments (System V): rdi is the number of a row's elements, rsi the pointers, rdx the constants, rcx the
    // rows (then in rbp), r8 the bytes of each pointer from row to row. rcx counts elements.
    fn emit(&mut self) -> Result<Vec<u8>, IcedError> {
        for register in SAVED {
            self.asm.push(register)?;
        }
        let slots = self.slots();
        for (slot, &pointer) in POINTERS.iter().enumerate().take(slots) {
            self.asm.mov(pointer, qword_ptr(rsi + 8 * slot))?;
        }
        for (number, id) in self.allocation.kept.clone().into_iter().enumerate() {
            let (to, from) = (self.register(id), self.constant(number));
            self.constant_to(to, from)?;
        }
        self.asm.mov(rbp, rcx)?;
        let (mut row, mut turn, mut end) = (self.asm.create_label(), self.asm.create_label(), self.asm.create_label());
        self.asm.set_label(&mut row)?;
        for id in self.allocation.before.clone() {
            self.op(id)?;
        }
        self.asm.xor(ecx, ecx)?;
        self.asm.set_label(&mut turn)?;
        for id in self.allocation.inside.clone() {
            self.op(id)?;
        }
        self.asm.add(rcx, (self.vectors * self.width()) as i32)?;
        self.asm.cmp(rcx, rdi)?;
        self.asm.jb(turn)?;
        for id in self.allocation.before.clone() {
            if let Op::Accumulator(slot, number) = self.code.ops[id] {
                let (to, from) = (self.accumulator(slot + 1, number)?, self.register(id));
                self.add(Instruction::with2(self.of(encodings::STORE), to, from)?)?;
            }
        }
        for id in self.allocation.after.clone() {
            self.op(id)?;
        }
        self.asm.dec(rbp)?;
        self.asm.jz(end)?;
        for slot in 0..slots {
            if let Some(&pointer) = POINTERS.get(slot) {
                self.asm.add(pointer, qword_ptr(r8 + 8 * slot))?;
            } else {
                self.asm.mov(rax, qword_ptr(r8 + 8 * slot))?;
                self.asm.add(qword_ptr(rsi + 8 * slot), rax)?;
            }
        }
        self.asm.jmp(row)?;
        self.asm.set_label(&mut end)?;
        self.asm.vzeroupper()?;
        for register in SAVED.into_iter().rev() {
            self.asm.pop(register)?;
        }
        self.asm.ret()?;
        self.asm.assemble(0)
    }

    fn width(&self) -> usize {
        if self.wide { 16 } else { 8 }
    }

    fn slots(&self) -> usize {
        let slot = |op: &Op| match *op {
            Op::Load(slot, _)
            | Op::LoadHalf(_, slot, _)
            | Op::Uniform(slot)
            | Op::UniformHalf(_, slot)
            | Op::StoreHalf(_, slot, ..)
            | Op::LoadMask(slot, _)
            | Op::UniformMask(slot)
            | Op::Store(slot, ..)
            | Op::StoreMask(slot, ..)
            | Op::StoreFirst(slot, _) => slot + 1,
            Op::Accumulator(slot, _) => slot + 2,
            _ => 0,
        };
        self.code.ops.iter().map(slot).max().unwrap_or(0)
    }

    fn add(&mut self, instruction: Instruction) -> Emitted {
        self.asm.add_instruction(instruction)
    }

    fn of(&self, [wide, narrow]: Pair) -> Encoding {
        if self.wide { wide } else { narrow }
    }

    /// The register that holds a slot's pointer.
    fn pointer(&mut self, slot: Slot) -> Result<AsmRegister64, IcedError> {
        match POINTERS.get(slot) {
            Some(&pointer) => Ok(pointer),
            None => {
                self.asm.mov(rax, qword_ptr(rsi + 8 * slot))?;
                Ok(rax)
            }
        }
    }

    /// The turn's vector of this number, of elements of 4 bytes.
    fn element(&mut self, slot: Slot, number: usize) -> Result<MemoryOperand, IcedError> {
        let (base, offset) = (self.pointer(slot)?, (4 * self.width() * number) as i64);
        Ok(MemoryOperand::with_base_index_scale_displ_size(base.into(), Register::RCX, 4, offset, 1))
    }

    fn accumulator(&mut self, slot: Slot, number: usize) -> Result<MemoryOperand, IcedError> {
        let (base, offset) = (self.pointer(slot)?, (4 * self.width() * number) as i64);
        Ok(MemoryOperand::with_base_displ(base.into(), offset))
    }

    /// A constant of the pool: one element for AVX-512, which broadcasts it, and a vector for AVX2.
    fn constant(&self, number: usize) -> MemoryOperand {
        let offset = number as i64 * if self.wide { 4 } else { 32 };
        MemoryOperand::with_base_displ_bcst_seg(Register::RDX, offset, self.wide, Register::None)
    }

    fn numbered(&self, number: usize) -> Register {
        let first = if self.wide { Register::ZMM0 } else { Register::YMM0 };
        first + number as u32
    }

    fn own(&self) -> Register {
        self.numbered(if self.wide { VECTORS_WIDE } else { VECTORS_NARROW } - OWN)
    }

    /// The register of what has one.
    fn register(&self, id: Id) -> Register {
        match self.allocation.of[id] {
            Place::Mask(number) if self.wide => Register::K0 + number as u32,
            Place::Vector(number) | Place::Mask(number) => self.numbered(number),
            Place::Pool(_) | Place::None => unreachable!("neither stores nor constants in memory are asked"),
        }
    }

    fn operand(&self, id: Id) -> Operand {
        match self.allocation.of[id] {
            Place::Pool(number) => Operand::Memory(self.constant(number)),
            _ => Operand::Register(self.register(id)),
        }
    }

    fn constant_to(&mut self, to: Register, from: MemoryOperand) -> Emitted {
        let from = MemoryOperand { is_broadcast: false, ..from };
        self.add(Instruction::with2(self.of(encodings::BROADCAST), to, from)?)
    }

    /// The operand in a register, if need be the encoder's own.
    fn in_register(&mut self, operand: Operand) -> Result<Register, IcedError> {
        match operand {
            Operand::Register(register) => Ok(register),
            Operand::Memory(memory) => {
                let own = self.own();
                self.constant_to(own, memory)?;
                Ok(own)
            }
        }
    }

    fn three(&mut self, encoding: Encoding, to: Register, a: Register, b: Operand) -> Result<Instruction, IcedError> {
        match b {
            Operand::Register(b) => Instruction::with3(encoding, to, a, b),
            Operand::Memory(b) => Instruction::with3(encoding, to, a, b),
        }
    }

    fn op(&mut self, id: Id) -> Emitted {
        match self.code.ops[id] {
            Op::Constant(_) => unreachable!("constants are not run"),
            Op::Keep(to, from) => self.copy(self.register(to), self.register(from)),
            Op::Uniform(slot) => {
                let from = MemoryOperand::with_base(self.pointer(slot)?.into());
                self.constant_to(self.register(id), from)
            }
            Op::Accumulator(slot, number) => {
                let from = self.accumulator(slot, number)?;
                self.add(Instruction::with2(self.of(encodings::LOAD), self.register(id), from)?)
            }
            Op::Load(slot, number) => {
                let from = self.element(slot, number)?;
                self.add(Instruction::with2(self.of(encodings::LOAD), self.register(id), from)?)
            }
            Op::LoadHalf(half, slot, number) => {
                let from = self.half_element(slot, number)?;
                self.widen(half, self.register(id), Operand::Memory(from))
            }
            Op::UniformHalf(half, slot) => self.uniform_half(half, id, slot),
            Op::RoundToF16(a) => self.round_to_f16(id, a),
            Op::StoreHalf(half, slot, number, from) => self.store_half(half, slot, number, from),
            Op::Store(slot, number, from) => {
                let from = self.in_register(self.operand(from))?;
                let to = self.element(slot, number)?;
                self.add(Instruction::with2(self.of(encodings::STORE), to, from)?)
            }
            Op::StoreFirst(slot, from) => {
                let from = self.in_register(self.operand(from))?;
                let (from, first) = (Register::XMM0 + (from as u32 - self.numbered(0) as u32), self.pointer(slot)?);
                let store = if self.wide { Encoding::EVEX_Vmovss_m32_k1_xmm } else { Encoding::VEX_Vmovss_m32_xmm };
                self.add(Instruction::with2(store, MemoryOperand::with_base(first.into()), from)?)
            }
            Op::From(first, a) => self.from(first, self.register(id), self.register(a)),
            Op::Two(op, a, b) => self.two(op, id, a, b),
            Op::Three(op, a, b, c) => self.product(op, self.register(id), [a, b, c].map(|id| self.operand(id))),
            Op::Shifted(shift, a, by) => {
                let pair = if shift == Shift::Left { encodings::SHIFT_LEFT } else { encodings::SHIFT_RIGHT };
                let a = self.in_register(self.operand(a))?;
                self.add(Instruction::with3(self.of(pair), self.register(id), a, by)?)
            }
            Op::Round(round, a) => {
                let a = self.in_register(self.operand(a))?;
                self.add(Instruction::with3(self.of(encodings::ROUND), self.register(id), a, round as u32)?)
            }
            Op::ToFloat(a) | Op::Sqrt(a) => {
                let is_root = matches!(self.code.ops[id], Op::Sqrt(_));
                let pair = if is_root { encodings::SQRT } else { encodings::TO_FLOAT };
                let a = self.in_register(self.operand(a))?;
                self.add(Instruction::with2(self.of(pair), self.register(id), a)?)
            }
            Op::Bits(a, b, chooser) => self.bits(id, a, b, chooser),
            Op::Select(mask, otherwise, then) => {
                let (to, mask) = (self.register(id), self.register(mask));
                let otherwise = self.in_register(self.operand(otherwise))?;
                let blend = self.of(encodings::BLEND);
                let mut blended = if self.wide {
                    self.three(blend, to, otherwise, self.operand(then))?
                } else {
                    match self.operand(then) {
                        Operand::Register(then) => Instruction::with4(blend, to, otherwise, then, mask)?,
                        Operand::Memory(then) => Instruction::with4(blend, to, otherwise, then, mask)?,
                    }
                };
                if self.wide {
                    blended.set_op_mask(mask);
                }
                self.add(blended)
            }
            Op::Test(compare, a, b) => {
                let (to, compares) = (self.register(id), self.of(encodings::COMPARE));
                let a = self.in_register(self.operand(a))?;
                let by = compare as u32;
                let tested = match self.operand(b) {
                    Operand::Register(b) => Instruction::with4(compares, to, a, b, by)?,
                    Operand::Memory(b) => Instruction::with4(compares, to, a, b, by)?,
                };
                self.add(tested)
            }
            Op::Masks(op, a, b) => {
                let [to, a, b] = [id, a, b].map(|id| self.register(id));
                self.add(Instruction::with3(self.of(encodings::masks(op)), to, a, b)?)
            }
            Op::LoadMask(slot, number) => self.load_mask(id, slot, number),
            Op::UniformMask(slot) => self.uniform_mask(id, slot),
            Op::StoreMask(slot, number, from) => self.store_mask(slot, number, from),
        }
    }

    fn copy(&mut self, to: Register, from: Register) -> Emitted {
        if to == from {
            return Ok(());
        }
        self.add(Instruction::with2(self.of(encodings::MOVE), to, from)?)
    }

    /// The elements from this one on, a power of two: by quarters of a register, or within each.
    fn from(&mut self, first: usize, to: Register, from: Register) -> Emitted {
        const QUARTER: usize = 4;
        // The place of each element is the old one's with this bit the other way.
        let by = match (first / QUARTER, first) {
            (2, _) => 0b01_00_11_10u32,
            (1, _) => 0b10_11_00_01,
            (_, 2) => 0b01_00_11_10,
            _ => 0b10_11_00_01,
        };
        let is_within = first < QUARTER;
        self.add(match (is_within, self.wide) {
            (true, _) => Instruction::with3(self.of(encodings::WITHIN_QUARTERS), to, from, by)?,
            (false, true) => Instruction::with4(encodings::QUARTERS, to, from, from, by)?,
            (false, false) => Instruction::with4(encodings::HALVES, to, from, from, 1u32)?,
        })
    }

    fn two(&mut self, op: Binary, id: Id, a: Id, b: Id) -> Emitted {
        let (mut a, mut b) = (self.operand(a), self.operand(b));
        if matches!(a, Operand::Memory(_)) && op.commutes() {
            (a, b) = (b, a);
        }
        let a = self.in_register(a)?;
        let two = self.three(self.of(encodings::binary(op)), self.register(id), a, b)?;
        self.add(two)
    }

    /// The instructions overwrite one of their operands, and take the last of them from memory.
    fn product(&mut self, op: Product, to: Register, [mut a, mut b, mut c]: [Operand; 3]) -> Emitted {
        let is_memory = |operand: Operand| matches!(operand, Operand::Memory(_));
        if is_memory(a) {
            (a, b) = (b, a);
        }
        let first = self.in_register(a)?;
        if is_memory(b) && is_memory(c) {
            c = Operand::Register(self.in_register(c)?);
        }
        let (form, second, third) = match (b, c) {
            (Operand::Register(second), Operand::Register(added)) if added == to && second != to && first != to => {
                (Form::Factors23, first, Operand::Register(second))
            }
            (Operand::Memory(_), Operand::Register(added)) if added == to => (Form::Factors23, first, b),
            (Operand::Memory(_), Operand::Register(added)) => {
                self.copy(to, first)?;
                (Form::Factors13, added, b)
            }
            (Operand::Register(second), _) if second == to => (Form::Factors21, first, c),
            (Operand::Register(second), _) => {
                self.copy(to, first)?;
                (Form::Factors21, second, c)
            }
            (Operand::Memory(_), Operand::Memory(_)) => unreachable!("one of them was loaded"),
        };
        let product = self.three(self.of(encodings::product(op, form)), to, second, third)?;
        self.add(product)
    }

    /// `a` where the chooser's bits are set, else `b`.
    fn bits(&mut self, id: Id, a: Id, b: Id, chooser: Id) -> Emitted {
        // Truth tables over the bits of the result's register, the second operand and the chooser.
        const FIRST_WHERE_SET: u32 = 0b1110_0100;
        const SECOND_WHERE_SET: u32 = 0b1101_1000;
        let to = self.register(id);
        let a = self.in_register(self.operand(a))?;
        let b = self.register(b);
        let (second, table) = if to == b {
            (a, SECOND_WHERE_SET)
        } else {
            self.copy(to, a)?;
            (b, FIRST_WHERE_SET)
        };
        let chosen = match self.operand(chooser) {
            Operand::Register(chooser) => Instruction::with4(encodings::TERNARY, to, second, chooser, table)?,
            Operand::Memory(chooser) => Instruction::with4(encodings::TERNARY, to, second, chooser, table)?,
        };
        self.add(chosen)
    }

    /// Bytes to a mask: any byte but zero is true.
    fn load_mask(&mut self, id: Id, slot: Slot, number: usize) -> Emitted {
        let (pointer, own) = (self.pointer(slot)?, self.own());
        let offset = (self.width() * number) as i64;
        let from = MemoryOperand::with_base_index_scale_displ_size(pointer.into(), Register::RCX, 1, offset, 1);
        let widened = [Encoding::EVEX_Vpmovzxbd_zmm_k1z_xmmm128, Encoding::VEX_Vpmovzxbd_ymm_xmmm64];
        let to = if self.wide { own } else { self.register(id) };
        self.add(Instruction::with2(self.of(widened), to, from)?)?;
        self.is_set(id, to)
    }

    /// One byte to a mask.
    fn uniform_mask(&mut self, id: Id, slot: Slot) -> Emitted {
        let (pointer, own) = (self.pointer(slot)?, self.own());
        self.asm.movzx(eax, byte_ptr(pointer))?;
        let to = if self.wide { own } else { self.register(id) };
        if self.wide {
            self.add(Instruction::with2(Encoding::EVEX_Vpbroadcastd_zmm_k1z_r32, to, Register::EAX)?)?;
        } else {
            let low = Register::XMM0 + (to as u32 - Register::YMM0 as u32);
            self.add(Instruction::with2(Encoding::VEX_Vmovd_xmm_rm32, low, Register::EAX)?)?;
            self.add(Instruction::with2(Encoding::VEX_Vbroadcastss_ymm_xmm, to, low)?)?;
        }
        self.is_set(id, to)
    }

    /// Whole numbers, none of them negative, to a mask.
    fn is_set(&mut self, id: Id, numbers: Register) -> Emitted {
        let (to, own) = (self.register(id), self.own());
        if self.wide {
            let test = Encoding::EVEX_Vptestmd_kr_k1_zmm_zmmm512b32;
            return self.add(Instruction::with3(test, to, numbers, numbers)?);
        }
        self.add(Instruction::with3(Encoding::VEX_Vpxor_ymm_ymm_ymmm256, own, own, own)?)?;
        self.add(Instruction::with3(Encoding::VEX_Vpcmpgtd_ymm_ymm_ymmm256, to, numbers, own)?)
    }

    /// A mask to bytes of one and zero.
    fn store_mask(&mut self, slot: Slot, number: usize, from: Id) -> Emitted {
        let (pointer, from) = (self.pointer(slot)?, self.register(from));
        let offset = self.width() * number;
        if self.wide {
            let own = zmm31;
            self.add(Instruction::with2(Encoding::EVEX_Vpmovm2d_zmm_kr, Register::ZMM31, from)?)?;
            self.asm.vpsrld(own, own, 31u32)?;
            return self.asm.vpmovdb(xmmword_ptr(pointer + rcx + offset), own);
        }
        let own = xmm15;
        let low = Register::XMM0 + (from as u32 - Register::YMM0 as u32);
        let number: Register = own.into();
        self.add(Instruction::with3(Encoding::VEX_Vextracti128_xmmm128_ymm_imm8, number, from, 1u32)?)?;
        self.add(Instruction::with3(Encoding::VEX_Vpackssdw_xmm_xmm_xmmm128, number, low, number)?)?;
        self.asm.vpacksswb(own, own, own)?;
        self.asm.vpabsb(own, own)?;
        self.asm.vmovq(qword_ptr(pointer + rcx + offset), own)
    }
}
