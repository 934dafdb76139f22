//! The A1 on paper: registers, descriptors, vital signs, firmware image.
