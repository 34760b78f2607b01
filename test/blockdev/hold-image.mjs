// Run as a process of its own: opens an image, says so on standard output, and keeps it until it is killed.
// Arguments: path, 'write' or 'read'.
import { createJiti } from 'jiti';

const jiti = createJiti(import.meta.url, { fsCache: false });
const { FileDevice } = await jiti.import('../../src/blockdev/index.ts');
const [path, access] = process.argv.slice(2);
try {
  FileDevice.open(path, { readOnly: access === 'read' });
  process.stdout.write('open\n');
} catch (error) {
  process.stdout.write(`${error.code}\n`);
}
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
