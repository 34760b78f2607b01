import { expect, test } from 'vitest';
import { type DiskProfile, profileOf, profiles } from '../../src/faults/index.ts';

test('the profiles are those of docs/disk-model.md', () => {
  const table = Object.entries(profiles).map(([key, profile]: [string, DiskProfile]) => [
    key === profile.name ? key : undefined,
    profile.sectorBytes,
    profile.physicalSectorBytes,
    profile.damagesPhysicalSector,
    profile.tearStepBytes,
  ]);
  expect(table).toEqual([
    ['nvme-512', 512, 512, false, 0],
    ['4kn', 4096, 4096, false, 0],
    ['512e', 512, 4096, true, 0],
    ['harsh', 512, 512, false, 64],
  ]);
});

test('a profile is known by its name, and one of its own is taken as it is', () => {
  expect(profileOf('512e')).toBe(profiles['512e']);
  const own: DiskProfile = { ...profiles.harsh, name: 'own', tearStepBytes: 8 };
  expect(profileOf(own)).toBe(own);
  for (const none of [null, undefined, 'toString', 5]) expect(() => profileOf(none as never)).toThrow(RangeError);
});
