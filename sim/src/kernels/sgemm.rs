//! f32 products, by the `matrixmultiply` crate.
#![allow(
    unsafe_code,
    reason = "matrixmultiply takes pointers; this is the one place that gives them to it"
)]

/// Adds `A x B` to `sums`, all row-major: `A` has `inner` columns, `B` has `columns`.
///
/// Rows beyond what the three slices have in common are left alone.
pub(crate) fn accumulate(a: &[f32], b: &[f32], inner: usize, columns: usize, sums: &mut [f32]) {
    if inner == 0 || columns == 0 || b.len() / columns < inner {
        return;
    }
    let rows = (a.len() / inner).min(sums.len() / columns);
    let (row_a, row_b, row_sums) = (inner as isize, columns as isize, columns as isize);
    // SAFETY: A has rows x inner elements, B inner x columns and the sums rows x columns, as just
    // computed from their lengths; the strides are those of row-major matrices of these widths;
    // `sums` is exclusive.
    unsafe {
        matrixmultiply::sgemm(
            rows,
            inner,
            columns,
            1.0,
            a.as_ptr(),
            row_a,
            1,
            b.as_ptr(),
            row_b,
            1,
            1.0,
            sums.as_mut_ptr(),
            row_sums,
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_of_small_integers_is_exact_and_adds_to_the_sums() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0];
        let mut sums = [10.0, 20.0, 30.0, 40.0];
        accumulate(&a, &b, 3, 2, &mut sums);
        assert_eq!(sums, [14.0, 25.0, 40.0, 51.0]);
    }

    #[test]
    fn slices_that_do_not_fit_are_left_alone() {
        let mut sums = [1.0];
        accumulate(&[1.0], &[], 1, 1, &mut sums);
        accumulate(&[], &[1.0], 1, 1, &mut sums);
        accumulate(&[1.0], &[1.0], 0, 1, &mut sums);
        assert_eq!(sums, [1.0]);
    }
}
