"""The records of a zip file, after PKWARE's APPNOTE 6.3; all numbers are little-endian.

Field order is that of the specification. `LIMIT_16` and `LIMIT_32` in a field mean that the value
stands in a zip64 record instead.
"""

from __future__ import annotations

from struct import Struct

# signature, version needed, flags, method, time, date, CRC-32, compressed size, size, lengths of
# name and extra
LOCAL = Struct("<4s5H3I2H")
LOCAL_SIGNATURE = b"PK\3\4"
# Where in a local header the CRC-32 stands.
LOCAL_CRC_OFFSET = 14

# signature, version made by, version needed, flags, method, time, date, CRC-32, compressed size,
# size, lengths of name, extra and comment, disk, internal and external attributes, header's offset
CENTRAL = Struct("<4s6H3I5H2I")
CENTRAL_SIGNATURE = b"PK\1\2"

# signature, this disk, the directory's disk, entries on this disk, entries, size and offset of
# the directory, length of the comment
END = Struct("<4s4H2IH")
END_SIGNATURE = b"PK\5\6"

# signature, size of the rest, version made by, version needed, this disk, the directory's disk,
# entries on this disk, entries, size and offset of the directory
END64 = Struct("<4sQ2H2I4Q")
END64_SIGNATURE = b"PK\6\6"

# signature, disk of the zip64 end record, its offset, number of disks
LOCATOR = Struct("<4sIQI")
LOCATOR_SIGNATURE = b"PK\6\7"

DESCRIPTOR_SIGNATURE = b"PK\7\x08"

LIMIT_16 = 0xFFFF
LIMIT_32 = 0xFFFFFFFF

STORED = 0
DEFLATED = 8

# The version of the specification that a reader must know: 2.0, or 4.5 for zip64.
VERSION = 20
VERSION_64 = 45
UNIX = 3

EXTRA_ZIP64 = 0x0001
