//! From straight-line code to a loop of machine code: `fn(turns, pointers)`.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use rustorch_kernels::isa::Level;

use super::micro::{Code, Id, Op, Slot};
use super::registers::{Allocation, Register, allocate};

/// Elements of a vector.
pub fn width(level: Level) -> usize {
    if level == Level::Avx512 { 16 } else { 8 }
}

const ZMM: [AsmRegisterZmm; 32] = [
    zmm0, zmm1, zmm2, zmm3, zmm4, zmm5, zmm6, zmm7, zmm8, zmm9, zmm10, zmm11, zmm12, zmm13, zmm14, zmm15, zmm16, zmm17,
    zmm18, zmm19, zmm20, zmm21, zmm22, zmm23, zmm24, zmm25, zmm26, zmm27, zmm28, zmm29, zmm30, zmm31,
];
const YMM: [AsmRegisterYmm; 16] =
    [ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6, ymm7, ymm8, ymm9, ymm10, ymm11, ymm12, ymm13, ymm14, ymm15];
const XMM: [AsmRegisterXmm; 16] =
    [xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13, xmm14, xmm15];
const MASKS: [AsmRegisterK; 8] = [k0, k1, k2, k3, k4, k5, k6, k7];
/// Registers that keep pointers through the loop; further pointers are read again in each turn.
const POINTERS: [AsmRegister64; 5] = [rdx, r8, r9, r10, r11];
/// The last vector register is for the encoder's own use.
const OWN: usize = 1;

/// The machine code of a loop over so many vectors a turn, or None where it needs more registers than the
/// level has.
pub fn assemble(code: &Code, vectors: usize, level: Level) -> Option<Vec<u8>> {
    let allocation = match level {
        Level::Avx512 => allocate(code, ZMM.len() - OWN, Some(MASKS.len() - 1))?,
        Level::Avx2 => allocate(code, YMM.len() - OWN, None)?,
        Level::Scalar => return None,
    };
    let wide = level == Level::Avx512;
    let mut assembler = Assembler { asm: CodeAssembler::new(64).ok()?, code, allocation, vectors, wide };
    // iced refuses what an instruction cannot encode: then there is no machine code, but blocks.
    assembler.emit().ok()
}

struct Assembler<'a> {
    asm: CodeAssembler,
    code: &'a Code,
    allocation: Allocation,
    vectors: usize,
    wide: bool,
}

/// An instruction over vectors of either width.
macro_rules! vectors {
    ($self:ident . $op:ident ($($register:expr),+ $(; $immediate:expr)?)) => {
        if $self.wide {
            $self.asm.$op($(ZMM[$register]),+ $(, $immediate)?)?
        } else {
            $self.asm.$op($(YMM[$register]),+ $(, $immediate)?)?
        }
    };
}

impl Assembler<'_> {
    // Arguments (System V): rdi is the number of turns, rsi the pointers; rcx counts elements.
    fn emit(&mut self) -> Result<Vec<u8>, IcedError> {
        for (slot, pointer) in POINTERS.iter().enumerate().take(self.slots()) {
            self.asm.mov(*pointer, qword_ptr(rsi + 8 * slot))?;
        }
        for id in self.allocation.before.clone() {
            self.before(id)?;
        }
        self.asm.xor(ecx, ecx)?;
        let mut turn = self.asm.create_label();
        self.asm.set_label(&mut turn)?;
        for id in self.allocation.inside.clone() {
            self.inside(id)?;
        }
        let elements = self.vectors * if self.wide { 16 } else { 8 };
        self.asm.add(rcx, elements as i32)?;
        self.asm.dec(rdi)?;
        self.asm.jnz(turn)?;
        for id in self.allocation.before.clone() {
            self.after(id)?;
        }
        self.asm.vzeroupper()?;
        self.asm.ret()?;
        self.asm.assemble(0)
    }

    fn slots(&self) -> usize {
        let slot = |op: &Op| match *op {
            Op::Load(slot, _)
            | Op::Uniform(slot)
            | Op::LoadMask(slot, _)
            | Op::Store(slot, _)
            | Op::StoreMask(slot, _)
            | Op::Accumulator(slot, _) => slot + 1,
            _ => 0,
        };
        self.code.ops.iter().map(slot).max().unwrap_or(0)
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

    fn vector(&self, id: Id) -> usize {
        match self.allocation.of[id] {
            Register::Vector(number) | Register::Mask(number) => number,
            Register::None => unreachable!("a store has no result"),
        }
    }

    fn mask(&self, id: Id) -> AsmRegisterK {
        MASKS[self.vector(id)]
    }

    fn before(&mut self, id: Id) -> Result<(), IcedError> {
        let to = self.vector(id);
        match self.code.ops[id] {
            Op::Uniform(slot) => {
                let pointer = self.pointer(slot)?;
                if self.wide {
                    self.asm.vbroadcastss(ZMM[to], dword_ptr(pointer))
                } else {
                    self.asm.vbroadcastss(YMM[to], dword_ptr(pointer))
                }
            }
            Op::Constant(bits) => {
                self.asm.mov(eax, bits)?;
                if self.wide {
                    self.asm.vpbroadcastd(ZMM[to], eax)
                } else {
                    self.asm.vmovd(XMM[to], eax)?;
                    self.asm.vbroadcastss(YMM[to], XMM[to])
                }
            }
            Op::Accumulator(slot, number) => {
                let pointer = self.pointer(slot)?;
                if self.wide {
                    self.asm.vmovups(ZMM[to], zmmword_ptr(pointer + 64 * number))
                } else {
                    self.asm.vmovups(YMM[to], ymmword_ptr(pointer + 32 * number))
                }
            }
            _ => unreachable!("only constants run before the loop"),
        }
    }

    /// What is left to do for an op that ran before the loop.
    fn after(&mut self, id: Id) -> Result<(), IcedError> {
        let Op::Accumulator(slot, number) = self.code.ops[id] else { return Ok(()) };
        let (pointer, from) = (self.pointer(slot)?, self.vector(id));
        if self.wide {
            self.asm.vmovups(zmmword_ptr(pointer + 64 * number), ZMM[from])
        } else {
            self.asm.vmovups(ymmword_ptr(pointer + 32 * number), YMM[from])
        }
    }

    fn inside(&mut self, id: Id) -> Result<(), IcedError> {
        match self.code.ops[id] {
            Op::Uniform(_) | Op::Constant(_) | Op::Accumulator(..) => unreachable!("they run before the loop"),
            Op::Keep(to, from) => vectors!(self.vmovaps(self.vector(to), self.vector(from))),
            Op::Load(slot, number) => {
                let (pointer, to) = (self.pointer(slot)?, self.vector(id));
                if self.wide {
                    self.asm.vmovups(ZMM[to], zmmword_ptr(pointer + rcx * 4 + 64 * number))?;
                } else {
                    self.asm.vmovups(YMM[to], ymmword_ptr(pointer + rcx * 4 + 32 * number))?;
                }
            }
            Op::Store(slot, from) => {
                let (pointer, from) = (self.pointer(slot)?, self.vector(from));
                if self.wide {
                    self.asm.vmovups(zmmword_ptr(pointer + rcx * 4), ZMM[from])?;
                } else {
                    self.asm.vmovups(ymmword_ptr(pointer + rcx * 4), YMM[from])?;
                }
            }
            Op::Add(a, b) => vectors!(self.vaddps(self.vector(id), self.vector(a), self.vector(b))),
            Op::Sub(a, b) => vectors!(self.vsubps(self.vector(id), self.vector(a), self.vector(b))),
            Op::Mul(a, b) => vectors!(self.vmulps(self.vector(id), self.vector(a), self.vector(b))),
            Op::Div(a, b) => vectors!(self.vdivps(self.vector(id), self.vector(a), self.vector(b))),
            Op::Max(a, b) => vectors!(self.vmaxps(self.vector(id), self.vector(a), self.vector(b))),
            Op::And(a, b) => vectors!(self.vandps(self.vector(id), self.vector(a), self.vector(b))),
            Op::Xor(a, b) => vectors!(self.vxorps(self.vector(id), self.vector(a), self.vector(b))),
            Op::Sqrt(a) => vectors!(self.vsqrtps(self.vector(id), self.vector(a))),
            Op::Select(mask, otherwise, then) => {
                let [to, otherwise, then] = [id, otherwise, then].map(|id| self.vector(id));
                if self.wide {
                    let mask = self.mask(mask);
                    self.asm.vblendmps(masked(ZMM[to], mask), ZMM[otherwise], ZMM[then])?;
                } else {
                    self.asm.vblendvps(YMM[to], YMM[otherwise], YMM[then], YMM[self.vector(mask)])?;
                }
            }
            Op::Test(compare, a, b) => {
                let (a, b) = (self.vector(a), self.vector(b));
                if self.wide {
                    self.asm.vcmpps(self.mask(id), ZMM[a], ZMM[b], compare as u32)?;
                } else {
                    self.asm.vcmpps(YMM[self.vector(id)], YMM[a], YMM[b], compare as u32)?;
                }
            }
            Op::MaskAnd(a, b) if self.wide => self.asm.kandw(self.mask(id), self.mask(a), self.mask(b))?,
            Op::MaskOr(a, b) if self.wide => self.asm.korw(self.mask(id), self.mask(a), self.mask(b))?,
            Op::MaskXor(a, b) if self.wide => self.asm.kxorw(self.mask(id), self.mask(a), self.mask(b))?,
            Op::MaskAnd(a, b) => vectors!(self.vandps(self.vector(id), self.vector(a), self.vector(b))),
            Op::MaskOr(a, b) => vectors!(self.vorps(self.vector(id), self.vector(a), self.vector(b))),
            Op::MaskXor(a, b) => vectors!(self.vxorps(self.vector(id), self.vector(a), self.vector(b))),
            Op::LoadMask(slot, number) => self.load_mask(id, slot, number)?,
            Op::StoreMask(slot, from) => self.store_mask(slot, from)?,
        }
        Ok(())
    }

    /// Bytes to a mask: any byte but zero is true.
    fn load_mask(&mut self, id: Id, slot: Slot, number: usize) -> Result<(), IcedError> {
        let pointer = self.pointer(slot)?;
        if self.wide {
            let own = ZMM[ZMM.len() - OWN];
            self.asm.vpmovzxbd(own, xmmword_ptr(pointer + rcx + 16 * number))?;
            return self.asm.vptestmd(self.mask(id), own, own);
        }
        let (to, own) = (YMM[self.vector(id)], YMM[YMM.len() - OWN]);
        self.asm.vpmovzxbd(to, qword_ptr(pointer + rcx + 8 * number))?;
        self.asm.vpxor(own, own, own)?;
        self.asm.vpcmpgtd(to, to, own)
    }

    /// A mask to bytes of one and zero.
    fn store_mask(&mut self, slot: Slot, from: Id) -> Result<(), IcedError> {
        let pointer = self.pointer(slot)?;
        if self.wide {
            let own = ZMM[ZMM.len() - OWN];
            self.asm.vpmovm2d(own, self.mask(from))?;
            self.asm.vpsrld(own, own, 31u32)?;
            return self.asm.vpmovdb(xmmword_ptr(pointer + rcx), own);
        }
        let (from, own) = (self.vector(from), YMM.len() - OWN);
        self.asm.vextracti128(XMM[own], YMM[from], 1u32)?;
        self.asm.vpackssdw(XMM[own], XMM[from], XMM[own])?;
        self.asm.vpacksswb(XMM[own], XMM[own], XMM[own])?;
        self.asm.vpabsb(XMM[own], XMM[own])?;
        self.asm.vmovq(qword_ptr(pointer + rcx), XMM[own])
    }
}

/// The register, written where the mask chooses between two sources.
fn masked(register: AsmRegisterZmm, mask: AsmRegisterK) -> AsmRegisterZmm {
    match mask {
        mask if mask == k1 => register.k1(),
        mask if mask == k2 => register.k2(),
        mask if mask == k3 => register.k3(),
        mask if mask == k4 => register.k4(),
        mask if mask == k5 => register.k5(),
        mask if mask == k6 => register.k6(),
        _ => register.k7(),
    }
}
