// What can be wrong with a volume, for the rim to put into words.

import BlockModel
import DiskIO
import LogFormat

/// Who has a volume open.
public struct VolumeHolder: Sendable, Hashable {
    public var processID: Int32
    /// What the holder does with it, in its own words (a mount point, a command); may be empty.
    public var purpose: String

    public init(processID: Int32, purpose: String) {
        self.processID = processID
        self.purpose = purpose
    }
}

public enum VolumeError: Error, Sendable {
    /// There is no volume in the folder.
    case notAVolume(String)
    /// Its creation did not end.
    case halfCreated(String)
    case futureVersion(String, UInt32)
    /// No slot of the superblock is valid.
    case superblocksDamaged(String)
    case folderNotEmpty(String)
    case inUse(String, holder: VolumeHolder?)
    case imageMissing(String)
    case imageWrongSize(String, expected: UInt64, actual: UInt64)
    /// Another process holds the image.
    case imageInUse(String)
    case logDirectoryMissing(String)
    /// A WAL file of another volume lies in the folder.
    case foreignFile(String)
    /// Records that were acknowledged cannot be read any more.
    case logDamaged(String, lastGood: Stamp, claimed: LSN?)
    case invalidSize(String)
    case io(IOError)
}
