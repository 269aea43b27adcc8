// tuf-js, asked what it makes of a repository: the same as client.py, which says how it is called. Before the other words
// comes the directory in which tuf-js is installed.

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';

const [clients, repository, state, aheadDays, ...targets] = process.argv.slice(2);
const require = createRequire(path.join(clients, 'package.json'));

if (aheadDays !== '0') {
  const now = Date.now() + Number(aheadDays) * 86_400_000;
  const Real = Date;
  globalThis.Date = class extends Real {
    constructor(...given) {
      super(...(given.length === 0 ? [now] : given));
    }
  };
}

const { Updater } = require('tuf-js');

const server = createServer((request, response) => {
  try {
    const file = path.join(repository, path.normalize(decodeURIComponent(request.url)));
    response.end(readFileSync(file));
  } catch {
    response.writeHead(404).end();
  }
});

async function look() {
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${server.address().port}`;
  const downloads = path.join(state, 'downloads');
  mkdirSync(downloads, { recursive: true });
  const updater = new Updater({
    metadataDir: state,
    metadataBaseUrl: `${url}/metadata`,
    targetDir: downloads,
    targetBaseUrl: `${url}/targets`,
    config: { fetchRetry: false },
  });
  await updater.refresh();
  const trusted = updater.trustedSet;
  const versions = {};
  for (const role of ['root', 'timestamp', 'snapshot', 'targets']) versions[role] = trusted[role].signed.version;
  const found = {};
  for (const target of targets) {
    const info = await updater.getTargetInfo(target);
    found[target] = null;
    if (info !== undefined) {
      const file = await updater.downloadTarget(info);
      found[target] = createHash('sha256').update(readFileSync(file)).digest('hex');
    }
  }
  return { versions, targets: found };
}

// What is thrown here is the library's verdict; what is not thrown by it ends the process with another code.
const verdicts = ['tuf-js', '@tufjs'];
try {
  console.log(JSON.stringify(await look()));
} catch (error) {
  if (!verdicts.some((name) => error.stack?.includes(name))) throw error;
  console.log(JSON.stringify({ refused: `${error.constructor.name}: ${error.message}` }));
} finally {
  server.close();
  server.closeAllConnections();
}
