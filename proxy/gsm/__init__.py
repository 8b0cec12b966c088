"""GSM short messages: TPDUs (3GPP TS 23.040), alphabets (23.038), causes (24.011, 27.005), SMPP.

Pure: octets in, values out; no I/O, no asyncio, no clock of its own.  `tpdu` has the octets,
`submit` makes them of what a client sends, `inbound` makes a deliver_sm of what a phone sends,
`status` says what reports and error codes mean in SMPP.
"""
