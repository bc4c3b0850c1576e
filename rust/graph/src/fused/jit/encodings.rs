//! The instructions of each operation, for AVX-512 and for AVX2.

use iced_x86::Code as Encoding;

use super::micro::{Binary, MaskBinary, Product};

/// The instruction over zmm registers, and the one over ymm registers.
pub type Pair = [Encoding; 2];

pub const BROADCAST: Pair = [Encoding::EVEX_Vbroadcastss_zmm_k1z_xmmm32, Encoding::VEX_Vbroadcastss_ymm_m32];
pub const MOVE: Pair = [Encoding::EVEX_Vmovaps_zmm_k1z_zmmm512, Encoding::VEX_Vmovaps_ymm_ymmm256];
pub const LOAD: Pair = [Encoding::EVEX_Vmovups_zmm_k1z_zmmm512, Encoding::VEX_Vmovups_ymm_ymmm256];
pub const STORE: Pair = [Encoding::EVEX_Vmovups_zmmm512_k1z_zmm, Encoding::VEX_Vmovups_ymmm256_ymm];
pub const SQRT: Pair = [Encoding::EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er, Encoding::VEX_Vsqrtps_ymm_ymmm256];
pub const ROUND: Pair =
    [Encoding::EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae, Encoding::VEX_Vroundps_ymm_ymmm256_imm8];
pub const TO_FLOAT: Pair = [Encoding::EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er, Encoding::VEX_Vcvtdq2ps_ymm_ymmm256];
pub const SHIFT_LEFT: Pair = [Encoding::EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8, Encoding::VEX_Vpslld_ymm_ymm_imm8];
pub const SHIFT_RIGHT: Pair = [Encoding::EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8, Encoding::VEX_Vpsrad_ymm_ymm_imm8];
pub const COMPARE: Pair =
    [Encoding::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae, Encoding::VEX_Vcmpps_ymm_ymm_ymmm256_imm8];
/// The first writes where its mask says so, the second takes its mask as a fourth operand.
pub const BLEND: Pair = [Encoding::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32, Encoding::VEX_Vblendvps_ymm_ymm_ymmm256_ymm];
/// Elements within each 16 bytes, and the 16 bytes of a register.
pub const WITHIN_QUARTERS: Pair =
    [Encoding::EVEX_Vpermilps_zmm_k1z_zmmm512b32_imm8, Encoding::VEX_Vpermilps_ymm_ymmm256_imm8];
pub const QUARTERS: Encoding = Encoding::EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8;
pub const HALVES: Encoding = Encoding::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8;
pub const TERNARY: Encoding = Encoding::EVEX_Vpternlogd_zmm_k1z_zmm_zmmm512b32_imm8;

pub fn binary(op: Binary) -> Pair {
    match op {
        Binary::Add => [Encoding::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er, Encoding::VEX_Vaddps_ymm_ymm_ymmm256],
        Binary::Sub => [Encoding::EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er, Encoding::VEX_Vsubps_ymm_ymm_ymmm256],
        Binary::Mul => [Encoding::EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er, Encoding::VEX_Vmulps_ymm_ymm_ymmm256],
        Binary::Div => [Encoding::EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er, Encoding::VEX_Vdivps_ymm_ymm_ymmm256],
        Binary::Max => [Encoding::EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae, Encoding::VEX_Vmaxps_ymm_ymm_ymmm256],
        Binary::Min => [Encoding::EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae, Encoding::VEX_Vminps_ymm_ymm_ymmm256],
        Binary::And => [Encoding::EVEX_Vandps_zmm_k1z_zmm_zmmm512b32, Encoding::VEX_Vandps_ymm_ymm_ymmm256],
        Binary::Xor => [Encoding::EVEX_Vxorps_zmm_k1z_zmm_zmmm512b32, Encoding::VEX_Vxorps_ymm_ymm_ymmm256],
        Binary::IntAdd => [Encoding::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32, Encoding::VEX_Vpaddd_ymm_ymm_ymmm256],
        Binary::IntSub => [Encoding::EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32, Encoding::VEX_Vpsubd_ymm_ymm_ymmm256],
        Binary::Scale => [Encoding::EVEX_Vscalefps_zmm_k1z_zmm_zmmm512b32_er, Encoding::INVALID],
    }
}

/// Over mask registers, and over vectors that are masks.
pub fn masks(op: MaskBinary) -> Pair {
    match op {
        MaskBinary::And => [Encoding::VEX_Kandw_kr_kr_kr, Encoding::VEX_Vandps_ymm_ymm_ymmm256],
        MaskBinary::Or => [Encoding::VEX_Korw_kr_kr_kr, Encoding::VEX_Vorps_ymm_ymm_ymmm256],
        MaskBinary::Xor => [Encoding::VEX_Kxorw_kr_kr_kr, Encoding::VEX_Vxorps_ymm_ymm_ymmm256],
    }
}

/// Which operands are the factors, by number: the first is the result's register, the third may be in memory.
#[derive(Clone, Copy)]
pub enum Form {
    Factors13,
    Factors21,
    Factors23,
}

pub fn product(op: Product, form: Form) -> Pair {
    match (op, form) {
        (Product::Add, Form::Factors13) => {
            [Encoding::EVEX_Vfmadd132ps_zmm_k1z_zmm_zmmm512b32_er, Encoding::VEX_Vfmadd132ps_ymm_ymm_ymmm256]
        }
        (Product::Add, Form::Factors21) => {
            [Encoding::EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er, Encoding::VEX_Vfmadd213ps_ymm_ymm_ymmm256]
        }
        (Product::Add, Form::Factors23) => {
            [Encoding::EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er, Encoding::VEX_Vfmadd231ps_ymm_ymm_ymmm256]
        }
        (Product::Sub, Form::Factors13) => {
            [Encoding::EVEX_Vfmsub132ps_zmm_k1z_zmm_zmmm512b32_er, Encoding::VEX_Vfmsub132ps_ymm_ymm_ymmm256]
        }
        (Product::Sub, Form::Factors21) => {
            [Encoding::EVEX_Vfmsub213ps_zmm_k1z_zmm_zmmm512b32_er, Encoding::VEX_Vfmsub213ps_ymm_ymm_ymmm256]
        }
        (Product::Sub, Form::Factors23) => {
            [Encoding::EVEX_Vfmsub231ps_zmm_k1z_zmm_zmmm512b32_er, Encoding::VEX_Vfmsub231ps_ymm_ymm_ymmm256]
        }
        (Product::From, Form::Factors13) => {
            [Encoding::EVEX_Vfnmadd132ps_zmm_k1z_zmm_zmmm512b32_er, Encoding::VEX_Vfnmadd132ps_ymm_ymm_ymmm256]
        }
        (Product::From, Form::Factors21) => {
            [Encoding::EVEX_Vfnmadd213ps_zmm_k1z_zmm_zmmm512b32_er, Encoding::VEX_Vfnmadd213ps_ymm_ymm_ymmm256]
        }
        (Product::From, Form::Factors23) => {
            [Encoding::EVEX_Vfnmadd231ps_zmm_k1z_zmm_zmmm512b32_er, Encoding::VEX_Vfnmadd231ps_ymm_ymm_ymmm256]
        }
    }
}
