//! Stored numbers as 32-bit floats.

use crate::Dtype;

impl Dtype {
    /// Bytes that a number takes.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// Widens little-endian numbers into `values`, as many as there are of both.
    pub(crate) fn decode(self, bytes: &[u8], values: &mut [f32]) {
        match self {
            Self::F32 => widen(bytes, values, f32::from_le_bytes),
            Self::F16 => widen(bytes, values, |bytes| from_f16(u16::from_le_bytes(bytes))),
            Self::BF16 => widen(bytes, values, |bytes| {
                f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
            }),
        }
    }
}

fn widen<const N: usize>(bytes: &[u8], values: &mut [f32], number: impl Fn([u8; N]) -> f32) {
    let (numbers, _) = bytes.as_chunks();
    for (value, bytes) in values.iter_mut().zip(numbers) {
        *value = number(*bytes);
    }
}

/// IEEE 754 binary16: 1 bit of sign, 5 of exponent with a bias of 15, 10 of fraction.
fn from_f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = u32::from((bits >> 10) & 0x1f);
    let fraction = bits & 0x3ff;
    match (exponent, fraction) {
        (0, _) => {
            // Zero and the numbers below the smallest exponent, in steps of 2^-24.
            let magnitude = f32::from(fraction) * f32::from_bits((127 - 24) << 23);
            f32::from_bits(magnitude.to_bits() | sign)
        }
        (0x1f, _) => f32::from_bits(sign | (0xff << 23) | (u32::from(fraction) << 13)),
        _ => f32::from_bits(sign | ((exponent + (127 - 15)) << 23) | (u32::from(fraction) << 13)),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;

    /// Every value of 16 bits, as candle widens it.
    fn reference(dtype: DType) -> Vec<f32> {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let tensor = Tensor::from_raw_buffer(&bytes, dtype, &[1 << 16], &Device::Cpu).unwrap();
        tensor.to_dtype(DType::F32).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn every_half_is_widened_exactly() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for (dtype, reference) in
            [(Dtype::F16, reference(DType::F16)), (Dtype::BF16, reference(DType::BF16))]
        {
            let mut values = vec![0.0; 1 << 16];
            dtype.decode(&bytes, &mut values);
            for (bits, (ours, theirs)) in values.iter().zip(&reference).enumerate() {
                let same = ours.to_bits() == theirs.to_bits();
                assert!(same || ours.is_nan() && theirs.is_nan(), "{dtype:?} {bits:#06x}");
            }
        }
    }
}
