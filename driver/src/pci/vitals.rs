//! The vital signs in config space.

use auk_asic::ident::VENDOR;
use auk_asic::vitals::{BODY, DVSEC_ID, DVSEC_SIZE, READ_TRIES, VitalSigns, Vitals};
use zerocopy::IntoBytes;

use super::{ConfigError, ConfigSpace};

/// The vital signs, read under their sequence counter: three tries, then unobservable.
///
/// # Errors
/// [`ConfigError::Gone`] when nothing answers, [`ConfigError::Missing`] when the function has no such block (an
/// FPGA prototype while its bitstream loads), [`ConfigError::Unsettled`] when the block changed during each try, and
/// what reading and parsing say.
pub fn read_vitals<C: ConfigSpace + ?Sized>(config: &C) -> Result<Vitals, ConfigError> {
    const NAME: &str = "vital signs (DVSEC 1)";
    let found = config
        .find_dvsec(VENDOR, DVSEC_ID)?
        .filter(|found| found.length >= DVSEC_SIZE)
        .ok_or(ConfigError::Missing(NAME))?;
    let start = found
        .offset
        .checked_add(BODY)
        .ok_or(ConfigError::Missing(NAME))?;
    let mut sequence = 0;
    for _ in 0..READ_TRIES {
        let mut block = VitalSigns::default();
        config.read(start, block.as_mut_bytes())?;
        sequence = config.read_u32(start)?;
        if sequence == u32::MAX {
            // Not a value that the counter can hold while the function answers: it is odd, and so never settles.
            config.identity()?;
        }
        if block.sequence == sequence && sequence % 2 == 0 {
            return Ok(Vitals::parse(&block)?);
        }
    }
    Err(ConfigError::Unsettled {
        tries: READ_TRIES,
        sequence,
    })
}
