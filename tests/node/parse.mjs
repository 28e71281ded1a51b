// Parses an AsyncAPI document with the official parser; prints every diagnostic and exits 1 if there is any.
import { readFileSync } from 'node:fs';
import { Parser } from '@asyncapi/parser';

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], 'utf8'));
for (const d of diagnostics) console.log(`severity ${d.severity} ${d.code} at ${d.path.join('.')}: ${d.message}`);
if (document) console.log(`${document.channels().length} channels, ${document.operations().length} operations, ${document.messages().length} messages`);
process.exit(document && diagnostics.length === 0 ? 0 : 1);
