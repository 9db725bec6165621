// Pictures: well-formed, alone, with everything that makes them readable, and counting rightly.

import CommandText
import Foundation
import Testing

#if canImport(FoundationXML)
    import FoundationXML
#endif

/// Collects what a picture holds; nil where it is no well-formed XML.
private final class PictureReader: NSObject, XMLParserDelegate {
    private(set) var elements: [String: Int] = [:]
    private(set) var texts: [String] = []
    private var open: [String] = []

    init?(_ svg: String) {
        super.init()
        let parser = XMLParser(data: Data(svg.utf8))
        parser.delegate = self
        guard parser.parse() else { return nil }
    }

    func parser(
        _ parser: XMLParser, didStartElement name: String, namespaceURI: String?,
        qualifiedName: String?, attributes: [String: String]
    ) {
        elements[name, default: 0] += 1
        if name == "text" { texts.append("") }
        open.append(name)
    }

    func parser(
        _ parser: XMLParser, didEndElement name: String, namespaceURI: String?,
        qualifiedName: String?
    ) { open.removeLast() }

    func parser(_ parser: XMLParser, foundCharacters string: String) {
        if open.last == "text", !texts.isEmpty { texts[texts.count - 1] += string }
    }

    func has(_ words: String) -> Bool { texts.contains { $0.contains(words) } }
}

@Suite struct PictureTests {
    private func check(_ svg: String) throws -> PictureReader {
        let reader = try #require(PictureReader(svg))
        let rest = svg.replacingOccurrences(of: "xmlns=\"http://www.w3.org/2000/svg\"", with: "")
        for word in ["http", "href", "url(", "<script", "<image", "<style", "@import"] {
            #expect(!rest.contains(word), "\(word) in the picture")
        }
        #expect(reader.elements["title", default: 0] >= 1)
        return reader
    }

    @Test func changeMap() throws {
        let picture = ChangeMapPicture(
            title: "What changed in a<b>&\"c\"\u{1}", subtitle: "from lsn:1 to lsn:2",
            volumeBytes: 1 << 30,
            runs: [
                .init(offset: 0, byteCount: 512), .init(offset: 1 << 20, byteCount: 3 << 19),
                .init(offset: (1 << 30) - 512, byteCount: 512),
            ])
        #expect(picture.cellBytes == 1 << 19)
        let cells = picture.changedBytes
        #expect(cells.count == 2048 && cells[0] == 512 && cells[2047] == 512)
        #expect(cells[2..<5].allSatisfy { $0 == 1 << 19 } && cells[5] == 0)
        let reader = try check(picture.svg)
        #expect(reader.has("What changed in a<b>&\"c\"\u{FFFD}"))
        for words in [
            "from lsn:1 to lsn:2", "1.5 MiB in 3 extents changed of 1 GiB (0.15%)",
            "offset within the row", "row starts at", "+8 MiB", "part of a cell that changed",
            "one cell is 512 KiB, one row 32 MiB", "all of it",
        ] { #expect(reader.has(words), "\(words)") }
        #expect(reader.elements["rect"] == 1 + 2048 + 6)
    }

    @Test(arguments: [512, 1024, 4096 * 3, 5 << 20, 1 << 43, 1 << 63] as [UInt64])
    func anySize(volumeBytes: UInt64) throws {
        let all = ChangeMapPicture(
            title: "t", subtitle: "s", volumeBytes: volumeBytes,
            runs: [.init(offset: 0, byteCount: volumeBytes)])
        #expect(all.changedBytes.reduce(0, +) == volumeBytes && all.changedBytes.count <= 2048)
        _ = try check(all.svg)
        let none = ChangeMapPicture(title: "t", subtitle: "s", volumeBytes: volumeBytes, runs: [])
        #expect(try check(none.svg).has("0 B in 0 extents changed"))
    }

    @Test func activity() throws {
        let second: Int64 = 1_000_000_000
        var bars: [ActivityPicture.Bar] = []
        for i in 0..<48 as Range<UInt64> {
            bars.append(
                ActivityPicture.Bar(
                    startWallNanoseconds: (1_795_263_411 + Int64(i)) * second,
                    writtenBytes: i << 20, overwrittenBytes: i << 19, writes: i * 3,
                    flushes: i % 4))
        }
        let picture = ActivityPicture(
            title: "What was written to /srv/<vol>", subtitle: "48 bars", widthNanoseconds: second,
            bars: bars, regions: [.init(label: "1 MiB at 7 MiB", overwrites: 12)])
        let reader = try check(picture.svg)
        for words in [
            "What was written to /srv/<vol>", "48 bars", "bytes written", "for the first time",
            "over what was written before", "writes", "flushes", "one bar is 1s", "32 MiB",
            "hottest regions", "1 MiB at 7 MiB",
        ] { #expect(reader.has(words), "\(words)") }
        let empty = ActivityPicture(
            title: "t", subtitle: "s", widthNanoseconds: 1000, bars: [], regions: [])
        #expect(try check(empty.svg).has("nothing was overwritten"))
        let huge = ActivityPicture(
            title: "t", subtitle: "s", widthNanoseconds: .max,
            bars: [
                .init(
                    startWallNanoseconds: .min, writtenBytes: .max, overwrittenBytes: .max,
                    writes: .max, flushes: .max)
            ], regions: [.init(label: "r", overwrites: .max)])
        _ = try check(huge.svg)
    }

    @Test func bars() {
        #expect(BarText.bar(0, of: 10, width: 8) == "")
        #expect(BarText.bar(10, of: 10, width: 4) == "████")
        #expect(BarText.bar(5, of: 10, width: 3) == "█▌")
        #expect(BarText.bar(1, of: 1_000_000, width: 8) == "▏")
        #expect(BarText.spark([0, 1, 4, 8]) == " ▂▅█")
        #expect(BarText.spark([]) == "")
        #expect(ActivityPicture.widthText(10_000) == "10µs")
        #expect(ActivityPicture.widthText(300_000_000_000) == "5m")
    }
}

@Suite struct SpreadPictureTests {
    @Test func barsPiecesAndThreshold() throws {
        var picture = SpreadPicture(
            title: "balanced", subtitle: "two & more", threshold: 1000, longest: 1200)
        picture.addDevice("dir:/a", note: "3 items", bytes: 1200, capacity: 2000, isAvailable: true)
        picture.addDevice("dir:/b", note: "", bytes: 0, capacity: nil, isAvailable: false)
        picture.addPiece(to: 0, bytes: 1190, file: 0, label: "disk.img", hint: "disk.img: all")
        for _ in 0..<10 { picture.addPiece(to: 0, bytes: 1, file: 1, label: "x", hint: "x") }
        let reader = try #require(PictureReader(picture.svg))
        // Ground, two bars, one piece, ten small ones together.
        #expect(reader.elements["rect"] == 5 && reader.elements["line"] == 2)
        for text in ["balanced", "two & more", "dir:/a", "3 items", "disk.img", "not available"] {
            #expect(reader.texts.contains(text), "\(text)")
        }
        #expect(reader.texts.contains("threshold 1000 B"))
    }
}
