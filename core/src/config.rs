//! placeholder, written by the configuration's author
