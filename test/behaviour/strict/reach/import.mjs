import './early.mjs';
import 'close-notify/register';
import './program.mjs';
