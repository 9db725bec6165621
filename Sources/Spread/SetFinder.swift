// Sets as they are found on devices, without any catalogue: each device is asked, and what belongs
// together is known by the set's id. A device whose manifest is lost or damaged still belongs to
// its set, as long as another manifest of the set can be read.

import DiskIO

/// A set, as far as the devices at hand show it.
public struct FoundSet: Sendable {
    public struct Place: Sendable {
        public var device: BackupDevice
        public var set: SetOnDevice
        /// Index in the manifest's devices; nil where it cannot be told.
        public var index: Int?
        /// The manifest there is valid.
        public var hasManifest: Bool
    }
    public var name: String
    /// nil: not even that can be read.
    public var id: [UInt8]?
    public var places: [Place]
    /// nil: no device at hand has a valid one.
    public var manifest: Manifest?

    /// Complete on at least one device at hand.
    public var isComplete: Bool {
        manifest != nil && places.contains { $0.set.state != .unfinished }
    }

    /// Without devices that the run left out: those hold only remains.
    public var holders: [Place] {
        guard let manifest else { return places }
        return places.filter { $0.index.map { !manifest.devices[$0].hasFailed } ?? true }
    }

    /// Devices that the manifest names and that are not at hand.
    public var missingDevices: [String] {
        guard let manifest else { return [] }
        let present = Set(places.compactMap(\.index))
        return manifest.devices.indices.filter {
            !manifest.devices[$0].hasFailed && !present.contains($0)
        }.map { manifest.devices[$0].name }
    }

    public var manifestIsDamaged: [String] {
        places.filter { !$0.hasManifest && $0.set.state != .unfinished }.map(\.device.name)
    }

    /// The place of a device of the manifest.
    func place(of index: Int) -> Place? { places.first { $0.index == index } }
}

public enum SetFinder {
    /// Asks every device; also which ones could not be asked.
    public static func find(
        _ devices: [BackupDevice], name: String? = nil
    ) -> (sets: [FoundSet], failures: [(device: String, failure: DeviceFailure)]) {
        var sets: [FoundSet] = []
        var failures: [(String, DeviceFailure)] = []
        for device in devices {
            do throws(DeviceFailure) {
                for found in try device.sets() where name == nil || found.name == name {
                    add(found, on: device, to: &sets)
                }
            } catch {
                failures.append((device.name, error))
            }
        }
        for i in sets.indices { assign(&sets[i]) }
        sets.sort {
            ($0.manifest?.identity.created ?? 0, $0.name)
                < ($1.manifest?.identity.created ?? 0, $1.name)
        }
        return (sets, failures)
    }

    private static func add(
        _ found: SetOnDevice, on device: BackupDevice, to sets: inout [FoundSet]
    ) {
        let bytes = try? device.manifest(of: found)
        let manifest = bytes.flatMap { ManifestDecoder.decode($0) }
        let id = manifest?.identity.id ?? found.setID
        let place = FoundSet.Place(
            device: device, set: found, index: nil, hasManifest: manifest != nil)
        if let id, let at = sets.firstIndex(where: { $0.id == id }) {
            sets[at].places.append(place)
            if manifest.map({ $0.completed > sets[at].manifest?.completed ?? 0 }) ?? false {
                sets[at].manifest = manifest
            }
        } else {
            sets.append(
                FoundSet(name: found.name, id: id, places: [place], manifest: manifest))
        }
    }

    /// Which device of the manifest each place is: by its id, else by its name.
    private static func assign(_ set: inout FoundSet) {
        guard let manifest = set.manifest else { return }
        for i in set.places.indices {
            let place = set.places[i]
            set.places[i].index =
                manifest.devices.firstIndex { $0.id == place.set.deviceID }
                ?? manifest.devices.firstIndex {
                    place.set.deviceID == nil && $0.name == place.device.name
                }
        }
    }
}

extension FoundSet {
    /// Reads an item and checks it; what is wrong with it, as half a sentence, or nil.
    func check(
        _ item: StoredItem, at place: Place, _ body: (ItemPiece) throws -> Void
    ) throws -> String? {
        guard let manifest else { return "no manifest" }
        let source = manifest.sources[item.source]
        let path = source.table.path(item.row)
        var header: SegmentHeader?
        var hash = ItemHash()
        do {
            try place.device.read(
                item, source: source.name, path: path, of: place.set, header: { header = $0 },
                { piece in
                    hash.update(piece)
                    try body(piece)
                })
        } catch let failure as DeviceFailure {
            return failure.reason
        } catch let error as IOError where error.operation != .write {
            return error.isMissing ? "it is not there" : error.reason
        }
        if item.place > 0 {
            guard let header else { return "its header is damaged" }
            guard header.setID == manifest.identity.id, header.source == source.name,
                header.path == path, header.offset == item.offset, header.size == item.size
            else { return "its header is that of another segment" }
        }
        guard hash.count == item.size else { return "it is cut short" }
        return hash.finish() == item.digest ? nil : "its content is damaged"
    }
}
