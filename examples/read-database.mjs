// Read from a database, and know why when not all of it came. Nothing here is about TLS: register does it.
//
//   node --import close-notify/register examples/read-database.mjs postgres://USER@HOST:PORT/DATABASE QUERY
import pg from 'pg';

const [connectionString, query] = process.argv.slice(2);

const client = new pg.Client({ connectionString, ssl: true });
// A connection that is lost between queries is told here.
client.on('error', () => {});
try {
  await client.connect();
  const { rows } = await client.query(query);
  for (const row of rows) console.log(Object.values(row).join('\t'));
  console.log(`-- all ${rows.length} rows`);
} catch (error) {
  console.log(`-- nothing to be trusted: ${error.code ?? 'error'}: ${error.message}`);
  process.exitCode = 1;
} finally {
  await client.end();
}
