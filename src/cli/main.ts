#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { systemClock } from '../core/index.ts';
import { runCommandLine } from './program.ts';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};
// A reader that goes away (head, less) ends the output, not with a stack trace.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});
const wantsColour = process.env['NO_COLOR'] === undefined && (process.stdout.isTTY ?? false);
process.exitCode = await runCommandLine(process.argv.slice(2), version, {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  isTerminal: process.stderr.isTTY ?? false,
  useColour: wantsColour,
  clock: systemClock,
});
