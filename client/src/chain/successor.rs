//! How is the cluster named in which a log goes on? By its orderers, and by how many clusters came before it.

use std::fmt;
use std::str::FromStr;

/// What a log is sealed for, if it goes on in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor {
    /// `host:port` of its orderers.
    pub orderers: Vec<String>,
    /// How many clusters came before it: 0 if the log that ends is an embedded one.
    pub generation: u32,
}

const GENERATION: &str = ";generation=";

impl fmt::Display for Successor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.orderers.join(","))?;
        match self.generation {
            0 => Ok(()),
            n => write!(f, "{GENERATION}{n}"),
        }
    }
}

impl FromStr for Successor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` names no cluster: HOST:PORT of its orderers, and perhaps {GENERATION}N");
        let (addrs, generation) = match text.split_once(GENERATION) {
            Some((addrs, n)) => (addrs, n.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?),
            None => (text, 0),
        };
        let is_addr = |addr: &str| {
            addr.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        let orderers: Vec<String> = addrs.split(',').map(String::from).collect();
        if orderers.iter().all(|a| is_addr(a)) { Ok(Self { orderers, generation }) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_and_what_is_none_is_refused() {
        for text in ["a:1", "a:1,[::1]:2", "10.0.0.1:7000,b:2,c:3;generation=7"] {
            assert_eq!(text.parse::<Successor>().unwrap().to_string(), text);
        }
        for wrong in ["", ",", "a", "a:1,", "a:x", "a:1;generation=", "a:1;generation=0", "a:1;generation=-1"]
        {
            assert!(wrong.parse::<Successor>().is_err(), "{wrong}");
        }
    }
}
