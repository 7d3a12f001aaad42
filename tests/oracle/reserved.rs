//! The 39 reserved bits of the VXLAN header (V2, D1): node mode drops what the kernel drops.

use super::rows::{Fate, arrives, cells, with};

fn bit(number: usize) {
    let frame = with(|outer| outer.vxlan[number / 8] |= 0x80 >> (number % 8));
    arrives(frame, Fate::Dropped("reserved_bits"));
}

cells! {
    v02_reserved_bit_00 bit(0);
    v02_reserved_bit_01 bit(1);
    v02_reserved_bit_02 bit(2);
    v02_reserved_bit_03 bit(3);
    v02_reserved_bit_05 bit(5);
    v02_reserved_bit_06 bit(6);
    v02_reserved_bit_07 bit(7);
    v02_reserved_bit_08 bit(8);
    v02_reserved_bit_09 bit(9);
    v02_reserved_bit_10 bit(10);
    v02_reserved_bit_11 bit(11);
    v02_reserved_bit_12 bit(12);
    v02_reserved_bit_13 bit(13);
    v02_reserved_bit_14 bit(14);
    v02_reserved_bit_15 bit(15);
    v02_reserved_bit_16 bit(16);
    v02_reserved_bit_17 bit(17);
    v02_reserved_bit_18 bit(18);
    v02_reserved_bit_19 bit(19);
    v02_reserved_bit_20 bit(20);
    v02_reserved_bit_21 bit(21);
    v02_reserved_bit_22 bit(22);
    v02_reserved_bit_23 bit(23);
    v02_reserved_bit_24 bit(24);
    v02_reserved_bit_25 bit(25);
    v02_reserved_bit_26 bit(26);
    v02_reserved_bit_27 bit(27);
    v02_reserved_bit_28 bit(28);
    v02_reserved_bit_29 bit(29);
    v02_reserved_bit_30 bit(30);
    v02_reserved_bit_31 bit(31);
    v02_reserved_bit_56 bit(56);
    v02_reserved_bit_57 bit(57);
    v02_reserved_bit_58 bit(58);
    v02_reserved_bit_59 bit(59);
    v02_reserved_bit_60 bit(60);
    v02_reserved_bit_61 bit(61);
    v02_reserved_bit_62 bit(62);
    v02_reserved_bit_63 bit(63);
}
