import { describe, expect, test } from 'vitest';
import { CodedError, codeOf, DeviceError, messageOf, undisturbed } from '../../src/core/index.ts';

describe('errors', () => {
  test('carry a code, a message, a cause and the name of their class', () => {
    const cause = new Error('underneath');
    const error = new DeviceError('EIO', 'the disk failed', { cause });
    expect(error).toBeInstanceOf(CodedError);
    expect(error).toBeInstanceOf(Error);
    expect([error.code, error.message, error.cause, error.name]).toEqual([
      'EIO',
      'the disk failed',
      cause,
      'DeviceError',
    ]);
    expect(new CodedError('EPERM', 'no').name).toBe('CodedError');
    expect('cause' in new CodedError('EPERM', 'no')).toBe(false);
  });

  test('codeOf reads our codes and the system errors, and nothing else', () => {
    expect(codeOf(new CodedError('ENOSPC', 'full'))).toBe('ENOSPC');
    expect(codeOf(Object.assign(new Error('gone'), { code: 'ENOENT' }))).toBe('ENOENT');
    for (const other of [new Error('plain'), { code: 5 }, null, undefined, 'EIO', 7])
      expect(codeOf(other)).toBeUndefined();
  });

  test('messageOf says something of whatever was thrown', () => {
    expect(messageOf(new Error('text'))).toBe('text');
    expect([messageOf('thrown'), messageOf(undefined), messageOf(null), messageOf(3)]).toEqual([
      'thrown',
      'undefined',
      'null',
      '3',
    ]);
    expect([messageOf(new RangeError()), messageOf(''), messageOf(Object.create(null))]).toEqual([
      'RangeError',
      'an empty message',
      'an object without a text',
    ]);
  });
});

test('undisturbed always chooses the first alternative', () => {
  expect([undisturbed.choose(1, 'one'), undisturbed.choose(100, 'many')]).toEqual([0, 0]);
});
