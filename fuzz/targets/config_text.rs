//! A configuration: any text is one or an error that says where, and what one says of itself is one again.
#![no_main]

use std::path::Path;

use auk_health::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let name = Path::new("fuzz.toml");
    match Config::from_text(name, text) {
        Ok(config) => {
            let _ = config.hash();
            let written = config.settings.to_toml();
            let again = Config::from_text(name, &written).unwrap_or_else(|error| {
                panic!("what it wrote is no configuration: {error}\n{written}")
            });
            assert_eq!(again.settings.to_toml(), written);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
