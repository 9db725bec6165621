// The tables of Recovery.swift: every row, and every combination of up to three small files
// against a second reading of the rules, by sets instead of cursors.

import BlockModel
import DiskIO
import LogFormat
import Testing
import WriteLog

@Suite struct RecoveryTableTests {
    private let ours = VolumeID(high: 1, low: 2)

    private func header(_ volume: VolumeID, _ sequence: UInt64) -> WALFileHeader {
        WALFileHeader(
            volume: volume, sequence: sequence, epoch: 1, epochFirstLSN: LSN(1), salt: 7,
            fileBytes: 8192)
    }

    @Test func everyRowOfTheFileTable() {
        let other = VolumeID(high: 3, low: 4)
        let rows: [(Result<WALFileHeader, WALFileHeader.DecodeFailure>, FileCase)] = [
            (.failure(.futureVersion(9)), .future(9)),
            (.success(header(other, 5)), .foreign),
            (.success(header(other, 6)), .foreign),
            (.success(header(ours, 6)), .recycling),
            (.success(header(ours, 5)), .usable),
            (.failure(.damaged), .unreadable),
        ]
        for (header, wanted) in rows {
            #expect(FileCase.decide(header: header, sequence: 5, volume: ours) == wanted)
        }
    }

    @Test func everyRowOfTheEndTable() {
        for row in 0..<16 {
            let bits = (0..<4).map { row & (1 << $0) != 0 }
            let wanted: EndCase =
                bits[0] || bits[1] ? .damaged : bits[2] ? .ended : bits[3] ? .damaged : .behind
            let found = EndCase.decide(
                damagedFileMayFollow: bits[0], laterRecordClaimsMissing: bits[1],
                reachesCheckpoint: bits[2], brokeOffBeforeLaterRecord: bits[3])
            #expect(found == wanted, "\(bits)")
        }
    }

    /// What one of the three files may be. File k holds the records 3k+1, 3k+2, 3k+3.
    private enum State: CaseIterable {
        case absent, good, secondPayloadDamaged, twoRecords, empty, oneHeaderCopyDamaged
        case headerDamaged, otherName, foreign, future, cutShort

        var isUsable: Bool {
            switch self {
            case .absent, .headerDamaged, .otherName, .foreign, .future: false
            default: true
            }
        }
        /// Which of its three records pass every check, by place.
        var valid: [Bool] {
            switch self {
            case .good, .oneHeaderCopyDamaged: [true, true, true]
            case .secondPayloadDamaged: [true, false, true]
            case .twoRecords: [true, true, false]
            case .cutShort: [true, false, false]
            default: [false, false, false]
            }
        }
        /// Which of its records have a header that can be read.
        var readable: [Bool] {
            self == .secondPayloadDamaged ? [true, true, true] : valid
        }
    }

    private func put(_ state: State, _ k: UInt64, claims: (UInt64) -> UInt64, _ maker: LogMaker)
        throws
    {
        var maker = maker
        let records = (1...3).map { maker.record(3 * k + $0, claims: claims(3 * k + $0)) }
        var bytes = maker.content(k + 1, records)
        let start = WALFileHeader.byteCount
        switch state {
        case .absent: return
        case .good: break
        case .secondPayloadDamaged: bytes[start + 1024 + 512 + 100] ^= 4
        case .twoRecords: bytes = maker.content(k + 1, Array(records[..<2]))
        case .empty: bytes = maker.content(k + 1, [])
        case .oneHeaderCopyDamaged: bytes[20] ^= 1
        case .headerDamaged:
            bytes[20] ^= 1
            bytes[512 + 20] ^= 1
        case .otherName: bytes = maker.content(k + 101, records)
        case .foreign:
            maker.volume.low += 1
            bytes = maker.content(k + 1, records)
        case .future:
            for copy in [0, 512] {
                bytes[copy + 12] = 2
                fixChecksum(&bytes, copy)
            }
        case .cutShort: bytes.removeSubrange((start + 1024 + 512)...)
        }
        try maker.put(bytes, as: k + 1)
    }

    /// What recovery must find, told by the sets of valid and readable records.
    private func expected(
        _ states: [State], checkpoint: UInt64, claims: (UInt64) -> UInt64
    ) -> (end: EndCase, last: UInt64) {
        let usable = (0..<states.count).filter { states[$0].isUsable }
        func records(_ which: (State) -> [Bool]) -> Set<UInt64> {
            Set(
                usable.flatMap { k in
                    which(states[k]).indices.filter { which(states[k])[$0] }.map {
                        UInt64(3 * k + $0 + 1)
                    }
                })
        }
        let (valid, readable) = (records(\.valid), records(\.readable))
        func begin(_ k: Int) -> UInt64? { states[k].valid[0] ? UInt64(3 * k + 1) : nil }
        let start = usable.last { begin($0).map { $0 <= checkpoint + 1 } ?? false }
        var end: UInt64 = 0
        if let start, let first = begin(start) {
            end = first - 1
            while valid.contains(end + 1) { end += 1 }
        }
        let missing = max(end, checkpoint) + 1
        let isCutShort = usable.contains { $0 >= start ?? 0 && states[$0] == .cutShort }
        let mayFollow = (0..<states.count).contains { k in
            states[k] == .headerDamaged
                && !usable.contains { $0 > k && (begin($0) ?? .max) <= checkpoint + 1 }
        }
        let later = readable.filter { $0 >= missing }
        if isCutShort || mayFollow || later.contains(where: { claims($0) >= missing }) {
            return (.damaged, max(end, checkpoint))
        }
        if end >= checkpoint { return (.ended, end) }
        return (start != nil && !later.isEmpty ? .damaged : .behind, checkpoint)
    }

    @Test func everyCombinationOfThreeFiles() throws {
        // Records claim all before them, or only what came with earlier files.
        let claimings: [(UInt64) -> UInt64] = [{ $0 - 1 }, { ($0 - 1) / 3 * 3 }]
        for claims in claimings {
            for a in State.allCases {
                for b in State.allCases {
                    for c in State.allCases {
                        let states = [a, b, c]
                        let maker = try LogMaker()
                        for (k, state) in states.enumerated() {
                            try put(state, UInt64(k), claims: claims, maker)
                        }
                        for checkpoint: UInt64 in [0, 2, 6] {
                            try check(states, checkpoint, claims, maker)
                        }
                    }
                }
            }
        }
    }

    private func check(
        _ states: [State], _ checkpoint: UInt64, _ claims: (UInt64) -> UInt64, _ maker: LogMaker
    ) throws {
        do {
            let (contents, redone) = try maker.read(checkpoint: checkpoint)
            #expect(!states.contains(.foreign) && !states.contains(.future), "\(states)")
            let wanted = expected(states, checkpoint: checkpoint, claims: claims)
            #expect(contents.end == wanted.end, "\(states) at \(checkpoint)")
            #expect(contents.last.lsn.rawValue == wanted.last, "\(states) at \(checkpoint)")
            let lsns = redone.map(\.lsn)
            let end = wanted.last
            #expect(lsns == (end > checkpoint ? Array(checkpoint + 1...end) : []), "\(states)")
            for record in redone { #expect(record.payload == LogMaker.payload(record.lsn)) }
        } catch RecoveryError.foreignFile {
            #expect(states.contains(.foreign))
        } catch RecoveryError.futureVersion(_, let version) {
            #expect(states.contains(.future) && version == 2)
        }
    }
}

@Suite struct RecoveryTests {
    @Test func recordsThatAnEarlierRecoveryCutOffNeverCount() throws {
        var maker = try LogMaker()
        try maker.put(maker.content(1, (1...5).map { maker.record($0) }), as: 1)
        // An epoch that began at 4, in a later file, and has only that record.
        maker.epoch = 2
        maker.epochFirstLSN = LSN(4)
        maker.salt = 99
        let again = RecordHeader(
            stamp: Stamp(lsn: LSN(4), wallNanoseconds: 40), kind: .write,
            extent: Extent(start: 1, count: 1), payloadBytes: 512, payloadCRC: 0,
            durableLSN: LSN(3))
        try maker.put(
            maker.content(2, [maker.record(again, payload: [UInt8](repeating: 9, count: 512))]),
            as: 2)
        let (contents, redone) = try maker.read()
        #expect(contents.end == .ended && contents.last.lsn == LSN(4))
        #expect(redone.map(\.lsn) == [1, 2, 3, 4])
        #expect(redone.last?.payload == [UInt8](repeating: 9, count: 512))
        #expect(contents.highestEpoch == 2 && contents.highestSequence == 2)
    }

    @Test func aLogThatEndsBeforeWhatTheSuperblockSaysIsDamaged() throws {
        let maker = try LogMaker()
        try maker.put(maker.content(1, (1...3).map { maker.record($0) }), as: 1)
        #expect(try maker.read(checkpoint: 1, durable: 3).contents.end == .ended)
        let contents = try maker.read(checkpoint: 1, durable: 4).contents
        #expect(contents.end == .damaged && contents.claimed == LSN(4))
    }

    @Test func otherNamesInTheFolderAreLeftAlone() throws {
        let maker = try LogMaker()
        try maker.put(maker.content(1, [maker.record(1)]), as: 1)
        for name in ["18446744073709551615.wal", "1.wal", "000000000002.wal.tmp", "notes"] {
            let file = try maker.storage.open(
                LogMaker.directory + "/" + name, OpenOptions(.readWrite, creation: .exclusively))
            file.close()
        }
        #expect(try maker.read().contents.highestSequence == 1)
    }

    @Test func aSectorThatCannotBeReadIsAnError() throws {
        let maker = try LogMaker()
        try maker.put(maker.content(1, (1...3).map { maker.record($0) }), as: 1)
        maker.storage.makeUnreadable(maker.path(1), sectors: 10..<11)
        #expect(throws: RecoveryError.self) { try maker.read() }
    }

    @Test func everyFlippedBitOfAFile() throws {
        let maker = try LogMaker()
        let content = maker.content(1, (1...3).map { maker.record($0, claims: $0 - 1) })
        try maker.put(content, as: 1)
        for bit in 0..<UInt64((WALFileHeader.byteCount + 3 * 1024) * 8) {
            maker.storage.corrupt(maker.path(1), bit: bit)
            try checkPrefix(maker, "bit \(bit)")
            maker.storage.corrupt(maker.path(1), bit: bit)
        }
        #expect(try maker.read().redone.count == 3)
    }

    @Test func everyTruncationOfAFile() throws {
        let maker = try LogMaker()
        let content = maker.content(1, (1...3).map { maker.record($0, claims: $0 - 1) })
        for count in 0..<content.count where count < 1100 || count > 3900 {
            try maker.put(Array(content[..<count]), as: 1)
            let contents = try maker.read().contents
            #expect(contents.end == .damaged, "\(count)")
        }
    }

    /// Recovery refuses, or gives a prefix with the right bytes.
    private func checkPrefix(_ maker: LogMaker, _ what: String) throws {
        do {
            let (contents, redone) = try maker.read()
            guard contents.end != .damaged else { return }
            #expect(redone.map(\.lsn) == Array((1...3).prefix(redone.count)), "\(what)")
            // The last one alone has nobody to claim it.
            #expect(redone.count >= 2, "\(what)")
            for record in redone {
                #expect(record.payload == LogMaker.payload(record.lsn), "\(what)")
            }
        } catch is RecoveryError {}
    }
}
