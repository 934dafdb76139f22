//! int8 products with exact int32 accumulators.
//!
//! Both operands are widened to 16 bits and laid out so that a dot product walks both in order:
//! compilers then use the multiply-add that every x86-64 and aarch64 has. Accumulators wrap, as
//! the hardware's do; 65,536 products of int8 stay far below that.

/// Widens row-major bytes of `A`.
pub(crate) fn pack_rows(bytes: &[u8], packed: &mut Vec<i16>) {
    packed.clear();
    packed.extend(bytes.iter().map(|&byte| i16::from(byte as i8)));
}

/// Rows of `B` that are transposed at a time, so that what is read stays in the nearest cache.
const BLOCK: usize = 64;
/// Columns that share one pass over a row of `A`.
const ABREAST: usize = 4;

/// Widens and transposes row-major bytes of `B` with `columns` columns: each column of the result
/// is contiguous.
pub(crate) fn pack_columns(bytes: &[u8], columns: usize, packed: &mut Vec<i16>) {
    let inner = bytes.len() / columns;
    packed.clear();
    packed.resize(bytes.len(), 0);
    for (index, block) in bytes.chunks(BLOCK * columns).enumerate() {
        for (column, packed) in packed.chunks_exact_mut(inner).enumerate() {
            let rows = block.chunks_exact(columns);
            for (to, row) in packed[index * BLOCK..].iter_mut().zip(rows) {
                *to = i16::from(row[column] as i8);
            }
        }
    }
}

/// Adds `A x B` to `sums` (row-major, a row per row of `A`, a column per column of `B`), for
/// packed operands of `inner` products a sum.
pub(crate) fn product(a: &[i16], b: &[i16], inner: usize, sums: &mut [i32]) {
    let columns = b.len() / inner;
    for (row, sums) in a.chunks_exact(inner).zip(sums.chunks_exact_mut(columns)) {
        let groups = b.chunks_exact(inner * ABREAST);
        let rest = groups.remainder().chunks_exact(inner);
        let (grouped, single) = sums.split_at_mut(columns - columns % ABREAST);
        for (group, sums) in groups.zip(grouped.chunks_exact_mut(ABREAST)) {
            for (sum, dot) in sums.iter_mut().zip(dots(row, group)) {
                *sum = sum.wrapping_add(dot);
            }
        }
        for (column, sum) in rest.zip(single) {
            *sum = sum.wrapping_add(dot(row, column));
        }
    }
}

/// The products of one row with [`ABREAST`] columns.
fn dots(row: &[i16], columns: &[i16]) -> [i32; ABREAST] {
    let inner = row.len();
    let (first, second) = columns.split_at(2 * inner);
    let (b0, b1) = first.split_at(inner);
    let (b2, b3) = second.split_at(inner);
    let mut sums = [0i32; ABREAST];
    for ((((&a, &b0), &b1), &b2), &b3) in row.iter().zip(b0).zip(b1).zip(b2).zip(b3) {
        let a = i32::from(a);
        for (sum, b) in sums.iter_mut().zip([b0, b1, b2, b3]) {
            *sum = sum.wrapping_add(a * i32::from(b));
        }
    }
    sums
}

fn dot(a: &[i16], b: &[i16]) -> i32 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| i32::from(a) * i32::from(b))
        .fold(0, i32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(a: &[u8], b: &[u8], inner: usize, columns: usize) -> Vec<i32> {
        let rows = a.len() / inner;
        let mut out = vec![0i64; rows * columns];
        for row in 0..rows {
            for column in 0..columns {
                for k in 0..inner {
                    out[row * columns + column] += i64::from(a[row * inner + k] as i8)
                        * i64::from(b[k * columns + column] as i8);
                }
            }
        }
        out.into_iter().map(|sum| sum as i32).collect()
    }

    proptest! {
        #[test]
        fn every_product_is_exact(
            rows in 1usize..6,
            inner in 1usize..200,
            columns in 1usize..20,
            seed in any::<u64>(),
        ) {
            let mut state = seed | 1;
            let mut byte = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            };
            let a: Vec<u8> = (0..rows * inner).map(|_| byte()).collect();
            let b: Vec<u8> = (0..inner * columns).map(|_| byte()).collect();
            let (mut packed_a, mut packed_b) = (Vec::new(), Vec::new());
            pack_rows(&a, &mut packed_a);
            pack_columns(&b, columns, &mut packed_b);
            let mut sums = vec![0; rows * columns];
            product(&packed_a, &packed_b, inner, &mut sums);
            prop_assert_eq!(sums, naive(&a, &b, inner, columns));
        }
    }

    #[test]
    fn the_greatest_products_are_exact() {
        let a = vec![0x80; 65_536];
        let b = vec![0x80; 65_536];
        let (mut packed_a, mut packed_b) = (Vec::new(), Vec::new());
        pack_rows(&a, &mut packed_a);
        pack_columns(&b, 1, &mut packed_b);
        let mut sums = vec![0];
        product(&packed_a, &packed_b, 65_536, &mut sums);
        assert_eq!(sums, [65_536 * 128 * 128]);
    }
}
