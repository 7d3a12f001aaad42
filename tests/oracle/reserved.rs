//! The 39 reserved bits of the VXLAN header (V2, D1): node mode drops what the kernel drops.

use super::outer::{Family, Outer};
use super::rows::{Fate, arrives_at, cells, plain, plain_pair};
use super::setting::Segment;

fn bit(family: Family, number: usize) {
    let mut outer = Outer::to(&Segment::over(family));
    outer.vxlan[number / 8] |= 0x80 >> (number % 8);
    let frame = outer.around(&plain());
    arrives_at(plain_pair(family), frame, Fate::Dropped("reserved_bits"));
}

macro_rules! table {
    ($($module:ident $family:expr;)*) => {
        $(mod $module {
            use super::*;

            cells! {
                v02_reserved_bit_00 bit($family, 0);
                v02_reserved_bit_01 bit($family, 1);
                v02_reserved_bit_02 bit($family, 2);
                v02_reserved_bit_03 bit($family, 3);
                v02_reserved_bit_05 bit($family, 5);
                v02_reserved_bit_06 bit($family, 6);
                v02_reserved_bit_07 bit($family, 7);
                v02_reserved_bit_08 bit($family, 8);
                v02_reserved_bit_09 bit($family, 9);
                v02_reserved_bit_10 bit($family, 10);
                v02_reserved_bit_11 bit($family, 11);
                v02_reserved_bit_12 bit($family, 12);
                v02_reserved_bit_13 bit($family, 13);
                v02_reserved_bit_14 bit($family, 14);
                v02_reserved_bit_15 bit($family, 15);
                v02_reserved_bit_16 bit($family, 16);
                v02_reserved_bit_17 bit($family, 17);
                v02_reserved_bit_18 bit($family, 18);
                v02_reserved_bit_19 bit($family, 19);
                v02_reserved_bit_20 bit($family, 20);
                v02_reserved_bit_21 bit($family, 21);
                v02_reserved_bit_22 bit($family, 22);
                v02_reserved_bit_23 bit($family, 23);
                v02_reserved_bit_24 bit($family, 24);
                v02_reserved_bit_25 bit($family, 25);
                v02_reserved_bit_26 bit($family, 26);
                v02_reserved_bit_27 bit($family, 27);
                v02_reserved_bit_28 bit($family, 28);
                v02_reserved_bit_29 bit($family, 29);
                v02_reserved_bit_30 bit($family, 30);
                v02_reserved_bit_31 bit($family, 31);
                v02_reserved_bit_56 bit($family, 56);
                v02_reserved_bit_57 bit($family, 57);
                v02_reserved_bit_58 bit($family, 58);
                v02_reserved_bit_59 bit($family, 59);
                v02_reserved_bit_60 bit($family, 60);
                v02_reserved_bit_61 bit($family, 61);
                v02_reserved_bit_62 bit($family, 62);
                v02_reserved_bit_63 bit($family, 63);
            }
        })*
    };
}

table! {
    over_ipv4 Family::V4;
    over_ipv6 Family::V6;
}
