//! CRC32c, the checksum of SCTP (RFC 9260 Appendix A). Eight bytes a step, by tables: frames that need it are rare.

const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `TABLES[n][byte]`: the remainder of `byte` followed by `n` zero bytes.
static TABLES: [[u32; 256]; 8] = tables();

/// The checksum over parts that follow each other. In SCTP it is stored with its lowest byte first.
pub fn crc32c<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut crc = u32::MAX;
    for part in parts {
        let (blocks, rest) = part.as_chunks::<8>();
        for block in blocks {
            let [a, b, c, d, e, f, g, h] =
                (u64::from_le_bytes(*block) ^ u64::from(crc)).to_le_bytes();
            crc = [h, g, f, e, d, c, b, a]
                .iter()
                .zip(&TABLES)
                .fold(0, |crc, (byte, table)| crc ^ table[usize::from(*byte)]);
        }
        for byte in rest {
            let [lowest, ..] = crc.to_le_bytes();
            crc = crc >> 8 ^ TABLES[0][usize::from(lowest ^ byte)];
        }
    }
    !crc
}

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 {
                crc >> 1
            } else {
                crc >> 1 ^ POLYNOMIAL
            };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut byte = 0;
    while byte < 256 {
        let mut n = 1;
        while n < 8 {
            let before: u32 = tables[n - 1][byte];
            tables[n][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            n += 1;
        }
        byte += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 9260 Appendix A, a bit at a time.
    fn naive(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                if crc & 1 == 0 {
                    crc >> 1
                } else {
                    crc >> 1 ^ POLYNOMIAL
                }
            })
        })
    }

    #[test]
    fn the_vectors_of_rfc_3720() {
        assert_eq!(crc32c([&[0; 32][..]]), 0x8a91_36aa);
        assert_eq!(crc32c([&[0xff; 32][..]]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c([&rising[..]]), 0x46dd_794e);
        assert_eq!(crc32c([&b"123456789"[..]]), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_parts_give_what_the_naive_twin_gives(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..200) {
            let (first, second) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(crc32c([first, second]), naive(&bytes));
        }
    }
}
