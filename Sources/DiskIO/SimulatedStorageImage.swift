// The bytes of a simulated file: 4 KiB pages, holes where nothing was written. Pages are shared
// between the cached and the durable image of a file and between forks of a storage, and copied
// by the first writer. Not synchronised: the storage's lock orders all access.

/// A page of bytes; changed only while it has one owner.
final class SimulatedPage: @unchecked Sendable {
    // @unchecked: a page with more than one owner is never written.
    static let bytes = 4096
    /// Reserved space that was never written; shared by all files.
    static let reserved = SimulatedPage()
    let base: UnsafeMutableRawPointer

    init() {
        base = .allocate(byteCount: Self.bytes, alignment: 4096)
        base.initializeMemory(as: UInt8.self, repeating: 0, count: Self.bytes)
    }

    init(copying other: SimulatedPage) {
        base = .allocate(byteCount: Self.bytes, alignment: 4096)
        base.copyMemory(from: other.base, byteCount: Self.bytes)
    }

    deinit { base.deallocate() }
}

/// Size and content of a file at one moment. Bytes past `size` are always zero or absent.
struct SimulatedImage {
    private(set) var pages: [UInt64: SimulatedPage] = [:]
    var size: UInt64 = 0

    private static let pageBytes = UInt64(SimulatedPage.bytes)

    var allocatedBytes: UInt64 { UInt64(pages.count) * Self.pageBytes }
    func hasPage(_ number: UInt64) -> Bool { pages[number] != nil }

    /// Calls `body` for every piece of the range that lies in one page: page number, offset in
    /// the page, offset in the range, length.
    @inline(__always)
    static func forEachPiece(
        at offset: UInt64, count: Int, _ body: (UInt64, Int, Int, Int) -> Void
    ) {
        var done = 0
        while done < count {
            let position = offset + UInt64(done)
            let inPage = Int(position % pageBytes)
            let length = min(SimulatedPage.bytes - inPage, count - done)
            body(position / pageBytes, inPage, done, length)
            done += length
        }
    }

    /// Fills `target` from `offset`; whatever is not there reads as zeros.
    func read(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) {
        Self.forEachPiece(at: offset, count: target.count) { page, inPage, done, length in
            let place = target.baseAddress! + done
            if let source = pages[page] {
                place.copyMemory(from: source.base + inPage, byteCount: length)
            } else {
                place.initializeMemory(as: UInt8.self, repeating: 0, count: length)
            }
        }
    }

    /// Puts bytes down; leaves `size` alone.
    mutating func write(_ source: UnsafeRawBufferPointer, at offset: UInt64) {
        Self.forEachPiece(at: offset, count: source.count) { page, inPage, done, length in
            writablePage(page).advanced(by: inPage)
                .copyMemory(from: source.baseAddress! + done, byteCount: length)
        }
    }

    /// Makes the range read as zeros; whole pages are given back.
    mutating func zero(offset: UInt64, count: UInt64) {
        guard count > 0 else { return }
        let first = offset / Self.pageBytes
        let last = (offset + count - 1) / Self.pageBytes
        // A range far beyond the pages that exist would be walked for nothing.
        let touched =
            last - first < UInt64(pages.count) * 2
            ? Array(first...last) : pages.keys.filter { $0 >= first && $0 <= last }
        for page in touched where pages[page] != nil {
            let start = max(offset, page * Self.pageBytes)
            let end = min(offset + count, (page + 1) * Self.pageBytes)
            if end - start == Self.pageBytes {
                pages[page] = nil
            } else {
                (writablePage(page) + Int(start - page * Self.pageBytes))
                    .initializeMemory(as: UInt8.self, repeating: 0, count: Int(end - start))
            }
        }
    }

    /// Sets the size; what lay beyond a smaller one is gone.
    mutating func resize(to newSize: UInt64) {
        if newSize < size { zero(offset: newSize, count: size - newSize) }
        size = newSize
    }

    /// Drops what lies past `size`.
    mutating func trim() {
        guard let last = pages.keys.max() else { return }
        let end = (last + 1) * Self.pageBytes
        if end > size { zero(offset: size, count: end - size) }
    }

    /// Takes space for every page of the range that has none.
    mutating func reserve(offset: UInt64, count: UInt64) {
        guard count > 0 else { return }
        for page in offset / Self.pageBytes...(offset + count - 1) / Self.pageBytes
        where pages[page] == nil {
            pages[page] = .reserved
        }
    }

    /// Takes over the pages of the range from `other` (shared, not copied).
    mutating func share(offset: UInt64, count: UInt64, from other: SimulatedImage) {
        guard count > 0 else { return }
        for page in offset / Self.pageBytes...(offset + count - 1) / Self.pageBytes {
            pages[page] = other.pages[page]
        }
    }

    /// The next run of written pages at or after `offset`, cut at `size`; nil where none is.
    func nextData(from offset: UInt64) -> Range<UInt64>? {
        guard offset < size else { return nil }
        let first = offset / Self.pageBytes
        func isData(_ page: UInt64) -> Bool {
            pages[page].map { $0 !== SimulatedPage.reserved } ?? false
        }
        var start = first
        if !isData(first) {
            let later = pages.keys.lazy.filter { $0 > first && isData($0) }
            guard let next = later.min() else { return nil }
            start = next
        }
        var end = start + 1
        while isData(end) { end += 1 }
        let low = max(offset, start * Self.pageBytes)
        let high = min(size, end * Self.pageBytes)
        return low < high ? low..<high : nil
    }

    private mutating func writablePage(_ number: UInt64) -> UnsafeMutableRawPointer {
        if let place = pages.index(forKey: number) {
            if !isKnownUniquelyReferenced(&pages.values[place]) {
                pages.values[place] = SimulatedPage(copying: pages.values[place])
            }
            return pages.values[place].base
        }
        let page = SimulatedPage()
        pages[number] = page
        return page.base
    }
}
