//! RTCP compound packets: views of SR, RR, SDES, BYE and report blocks (RFC 3550 section 6).
