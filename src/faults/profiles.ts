import { describeValue } from '../core/index.ts';

/** What a disk promises, and breaks, when the power fails. Data: a profile of one's own is an object literal. */
export interface DiskProfile {
  readonly name: string;
  /** Bytes in a logical sector. A whole logical sector is old or new, unless one of the two rules below says otherwise. */
  readonly sectorBytes: number;
  /** Bytes in a physical sector. */
  readonly physicalSectorBytes: number;
  /** A cut may damage every sector of a physical sector that holds an unflushed write. */
  readonly damagesPhysicalSector: boolean;
  /** A cut may leave a new prefix with an old suffix in a sector, at multiples of this; 0: never. */
  readonly tearStepBytes: number;
  /** What holds after a cut under this profile. */
  readonly guarantees: string;
  /** What this profile leaves out, so that nobody takes more from a clean result than there is. */
  readonly omits: string;
}

export type ProfileName = 'nvme-512' | '4kn' | '512e' | 'harsh';

/** The profiles that come with powercut; docs/disk-model.md tells them apart. */
export const profiles: Readonly<Record<ProfileName, DiskProfile>> = {
  'nvme-512': {
    name: 'nvme-512',
    sectorBytes: 512,
    physicalSectorBytes: 512,
    damagesPhysicalSector: false,
    tearStepBytes: 0,
    guarantees: 'each 512-byte sector is whole: durable, or one of its unflushed versions; neighbours are untouched',
    omits: 'tears inside a sector, damage next to a write',
  },
  '4kn': {
    name: '4kn',
    sectorBytes: 4096,
    physicalSectorBytes: 4096,
    damagesPhysicalSector: false,
    tearStepBytes: 0,
    guarantees: 'each 4096-byte sector is whole: durable, or one of its unflushed versions; neighbours are untouched',
    omits: 'tears inside a sector, damage next to a write',
  },
  '512e': {
    name: '512e',
    sectorBytes: 512,
    physicalSectorBytes: 4096,
    damagesPhysicalSector: true,
    tearStepBytes: 0,
    guarantees:
      'a physical sector of 4096 bytes without an unflushed write is untouched; one with such a write is either ' +
      'intact, each of its 512-byte sectors whole, or all noise',
    omits: 'tears inside a logical sector, damage to part of a physical sector, a damaged sector that fails to read',
  },
  harsh: {
    name: 'harsh',
    sectorBytes: 512,
    physicalSectorBytes: 512,
    damagesPhysicalSector: false,
    tearStepBytes: 64,
    guarantees:
      'a sector without an unflushed write is untouched; one with such a write is whole, or a new prefix with an old ' +
      'suffix at a multiple of 64 bytes',
    omits: 'tears at other offsets, tears with a new suffix, damage next to a write',
  },
};

/**
 * The profile of that name; a profile given as an object passes through.
 * @throws RangeError for a name that there is not
 */
export function profileOf(profile: ProfileName | DiskProfile): DiskProfile {
  if (typeof profile === 'object' && profile !== null) return profile;
  if (Object.hasOwn(profiles, profile)) return profiles[profile];
  throw new RangeError(
    `profile: expected one of ${Object.keys(profiles).join(', ')}, or a DiskProfile, got ${describeValue(profile)}`,
  );
}
