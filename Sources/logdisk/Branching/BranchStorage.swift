// The files of a volume, where it is a branch or being filled: its image holds what was written to
// it, and all else is read from the state that it stands on.

import DiskIO
import History
import Synchronization

/// The system's files, but for one that is thin.
final class BranchStorage: DiskStorage, @unchecked Sendable {
    // @unchecked: constant after init.
    private let imagePath: String
    private let presentPath: String
    private let below: Below

    /// `folder` is the branch's. Holds the state, and so its lease.
    init(folder: String, imagePath: String, base: PastState) {
        self.imagePath = imagePath
        presentPath = "\(folder)/\(BranchRecord.presentName)"
        below = Below(base)
        super.init()
    }

    override func open(_ path: String, _ options: OpenOptions) throws(IOError) -> StorageFile {
        let file = try super.open(path, options)
        guard path == imagePath else { return file }
        let present: StorageFile
        do throws(IOError) {
            present = try super.open(presentPath, OpenOptions(options.access))
        } catch {
            file.close()
            throw error
        }
        return ThinFile(data: file, present: present, base: below)
    }

    /// From now on the image stands on `state`, of the same content.
    func stand(on state: PastState) { below.state.withLock { $0 = state } }

    /// A past state as a thin file sees it.
    private final class Below: ThinBase {
        let state: Mutex<PastState>

        init(_ state: PastState) { self.state = Mutex(state) }

        private var view: PointInTimeView { state.withLock { $0.view } }

        func read(
            into target: UnsafeMutableRawBufferPointer, at offset: UInt64
        ) throws(IOError) {
            do throws(HistoryError) {
                try view.read(into: target, at: offset)
            } catch {
                throw IOError(.read, "the state below the image (\(error))", 5)  // EIO
            }
        }

        func nextData(from offset: UInt64) -> Range<UInt64>? { view.nextData(from: offset) }
    }
}
